"""From prompts to verified references by asking a teacher (rejection sampling)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference
from mentor_pl.references.selection import Preference, choose, reference_of, rejection_reason
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How often a prompt is tried and what is kept.

    Attributes:
        samples: Attempts at each prompt, at most.
        keep: References kept of each prompt, at most.
        prefer: Which of several verified attempts are kept. With `first`, no more attempts are made
            once `keep` are verified.
        max_failed_calls: Failed tool calls that a verified attempt may have.
        concurrency: Prompts that are tried at once.
        max_unavailable_in_a_row: Attempts in a row without any answer from the teacher after which
            the collection stops.
        max_refused_in_a_row: Attempts in a row that the teacher refused (for another cause than
            what the prompt says or how long it is) after which the collection stops: it is a
            setting then that it refuses, and not a prompt.
    """

    samples: int = 1
    keep: int = 1
    prefer: Preference = "first"
    max_failed_calls: int = 0
    concurrency: int = 8
    max_unavailable_in_a_row: int = 5
    max_refused_in_a_row: int = 5

    def __post_init__(self) -> None:
        for name in ("samples", "keep", "concurrency", "max_unavailable_in_a_row", "max_refused_in_a_row"):
            if getattr(self, name) < 1:
                raise ConfigError(f"sampling.{name} is {getattr(self, name)}; it must be at least 1")

    def check_temperature(self, temperature: float | None) -> None:
        """Refuse to sample several times what is always the same.

        Raises:
            ConfigError: Several samples at temperature 0.
        """
        if self.samples > 1 and temperature == 0:
            raise ConfigError(
                f"sampling.samples is {self.samples} but the teacher's temperature is 0: every sample would be the same; "
                "raise the temperature or take 1 sample"
            )


@dataclass(slots=True, kw_only=True)
class CollectionReport:
    """What a collection brought.

    Attributes:
        prompts: Prompts handled.
        solved: Prompts with at least one reference.
        references: References kept.
        attempts: Attempts made or found in the journal.
        verified: Attempts that were verified.
        causes: Why attempts were not, with counts.
        calls: Tool -> calls in kept references.
        used_in: Tool -> kept references that call it.
    """

    prompts: int = 0
    solved: int = 0
    references: int = 0
    attempts: int = 0
    verified: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    used_in: Counter[str] = field(default_factory=Counter)

    def take(self, outcome: Outcome) -> None:
        """Count one prompt in."""
        self.prompts += 1
        self.solved += bool(outcome.references)
        self.references += len(outcome.references)
        self.attempts += outcome.attempts
        self.verified += outcome.verified
        self.causes.update(outcome.causes)
        for reference in outcome.references:
            names = [call.name for call in reference.tool_calls]
            self.calls.update(names)
            self.used_in.update(set(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one prompt.

    Attributes:
        references: Those kept.
        attempts: Attempts made.
        verified: Attempts verified.
        causes: Why the others were not.
    """

    references: tuple[Reference, ...]
    attempts: int
    verified: int
    causes: tuple[str, ...]


def select(
    prompt: Reference,
    attempts: Iterable[Trajectory | str],
    *,
    judges: Sequence[RewardComponent],
    sampling: Sampling,
    teacher: str,
) -> Outcome:
    """Verify attempts and keep the best.

    Args:
        prompt: What was tried.
        attempts: In order, each a trajectory or why there is none; read no further than needed.
        judges: Each must score 1.0.
        sampling: What is kept.
        teacher: Who tried.
    """
    verified: list[Trajectory] = []
    causes: list[str] = []
    for attempt in attempts:
        cause = (
            attempt
            if isinstance(attempt, str)
            else rejection_reason(attempt, prompt, judges, max_failed_calls=sampling.max_failed_calls)
        )
        if cause is not None:
            causes.append(cause)
        elif isinstance(attempt, Trajectory):
            verified.append(attempt)
        if sampling.prefer == "first" and len(verified) == sampling.keep:
            break
    kept = choose(verified, keep=sampling.keep, prefer=sampling.prefer)
    references = tuple(
        reference_of(
            trajectory,
            prompt,
            reference_id=f"{prompt.reference_id}/{index}" if index else prompt.reference_id,
            teacher=teacher,
        )
        for index, trajectory in enumerate(kept)
    )
    return Outcome(
        references=references,
        attempts=len(verified) + len(causes),
        verified=len(verified),
        causes=tuple(causes),
    )


Select = Callable[[Reference, Iterable[Trajectory | str]], Outcome]
"""Verifies the attempts at a prompt and keeps the best; reads no more attempts than needed."""


class Solver(ABC):
    """Tries prompts: a teacher at work, with what it needs."""

    @abstractmethod
    def outcomes(self, prompts: Iterable[Reference], select: Select) -> Iterator[Outcome]:
        """Try prompts.

        Args:
            prompts: Read as needed.
            select: Given each prompt's attempts, each a trajectory or why there is none.

        Yields:
            What became of each prompt, in their order.

        Raises:
            TeacherError: The teacher cannot be used. What was paid for is in the journal.
        """


class Collector:
    """Has prompts tried, and hands their references out in the order of the prompts.

    Args:
        solver: Who tries.
        teacher: Its name, for the references.
        judges: Each must score an attempt 1.0.
        sampling: How often a prompt is tried and what is kept.

    Attributes:
        report: What came of it so far.
    """

    def __init__(self, solver: Solver, teacher: str, judges: Sequence[RewardComponent], sampling: Sampling) -> None:
        self.report = CollectionReport()
        self._solver, self._teacher, self._judges, self._sampling = solver, teacher, judges, sampling

    def references(
        self, prompts: Iterable[Reference], progress: Callable[[], None] = lambda: None
    ) -> Iterator[Reference]:
        """Have prompts tried.

        Args:
            prompts: Read as needed.
            progress: Called after each prompt.

        Yields:
            What is kept, prompt by prompt.

        Raises:
            TeacherError: The teacher cannot be used. What was paid for is in the journal.
        """
        for outcome in self._solver.outcomes(prompts, self._select):
            self.report.take(outcome)
            progress()
            yield from outcome.references

    def _select(self, prompt: Reference, attempts: Iterable[Trajectory | str]) -> Outcome:
        return select(prompt, attempts, judges=self._judges, sampling=self._sampling, teacher=self._teacher)
