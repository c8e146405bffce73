"""A problem, and how one is drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mentor_pl.embedded.toolmath.operations import (
    OPERATIONS,
    SMALL,
    WITH_SHORTCUT,
    Size,
    Step,
    carry_out,
    draw_operands,
    draw_start,
)
from mentor_pl.embedded.toolmath.wording import ENDINGS, NAMES, OBJECTS, OPENING, SENTENCES, USUAL_WORDINGS

_MAX_ATTEMPTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One operation of a problem, carried out.

    Attributes:
        operation: A key of `OPERATIONS`.
        operands: Its own numbers, as the text names them.
        steps: Its tool calls, one or two.
    """

    operation: str
    operands: tuple[int, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem in words with its right solution.

    Attributes:
        question: The text.
        start: The number that the text starts with.
        parts: The operations, in order; each works on the result of the one before.
        answer: The last result; a whole number that is not negative.
    """

    question: str
    start: int
    parts: tuple[Part, ...]
    answer: int

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the operations, in order."""
        return tuple(part.operation for part in self.parts)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All tool calls, in order."""
        return tuple(step for part in self.parts for step in part.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What kind of problem to draw.

    Attributes:
        lengths: Numbers of operations to choose among; a number given twice is twice as likely.
        size: How big the numbers are.
        wordings: Which of the four wordings of everything to choose among.
        shortcut_share: Share of problems whose numbers let a cheaper way end at the right answer
            (see `WITH_SHORTCUT`), the others' numbers not; None takes numbers as they come.
        only_pairs: Neighbouring operations must be one of these pairs; None allows all.
        without_pairs: Neighbouring operations must not be one of these pairs.
        with_operation: At least one operation must be among these; empty asks for none.
    """

    lengths: tuple[int, ...] = (1, 2, 2)
    size: Size = SMALL
    wordings: tuple[int, ...] = USUAL_WORDINGS
    shortcut_share: float | None = None
    only_pairs: frozenset[tuple[str, str]] | None = None
    without_pairs: frozenset[tuple[str, str]] = frozenset()
    with_operation: frozenset[str] = frozenset()

    def allows(self, operations: Sequence[str]) -> bool:
        """Say whether a chain of operations is of this style; the same operation never stands twice in a row."""
        pairs = set(zip(operations, operations[1:], strict=False))
        return (
            all(first != second for first, second in pairs)
            and not pairs & self.without_pairs
            and (self.only_pairs is None or pairs <= self.only_pairs)
            and (not self.with_operation or not self.with_operation.isdisjoint(operations))
        )


def draw_problem(rng: random.Random, style: Style) -> Problem:
    """Draw one problem; the same state of `rng` gives the same problem.

    Raises:
        RuntimeError: No problem of this style turned up; its conditions exclude one another.
    """
    for _ in range(_MAX_ATTEMPTS):
        operations = [rng.choice(list(OPERATIONS)) for _ in range(rng.choice(style.lengths))]
        if not style.allows(operations):
            continue
        problem = _attempt(rng, operations, style)
        if problem is not None:
            return problem
    raise RuntimeError(f"no problem of {style} in {_MAX_ATTEMPTS} attempts; loosen the style")


def _attempt(rng: random.Random, operations: Sequence[str], style: Style) -> Problem | None:
    shortcut = None if style.shortcut_share is None else rng.random() < style.shortcut_share
    name, objects = rng.choice(NAMES), rng.choice(OBJECTS)
    start = value = draw_start(rng, operations[0], style.size)
    sentences = [OPENING.format(name=name, start=start, objects=objects)]
    parts: list[Part] = []
    for operation in operations:
        operands = draw_operands(rng, operation, value, style.size, shortcut if operation in WITH_SHORTCUT else None)
        if operands is None:
            return None
        steps = carry_out(operation, value, operands)
        value = int(steps[-1].result)
        named = dict(zip("abc", operands, strict=False))
        sentences.append(SENTENCES[operation][rng.choice(style.wordings)].format(name=name, **named))
        parts.append(Part(operation=operation, operands=operands, steps=steps))
    if not 0 <= value <= style.size.largest_answer:
        return None
    sentences.append(ENDINGS[rng.choice(style.wordings)].format(objects=objects))
    return Problem(question=" ".join(sentences), start=start, parts=tuple(parts), answer=value)
