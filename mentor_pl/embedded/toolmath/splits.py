"""The training prompts and the evaluation splits: one in domain, five that each leave it in another way."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection

from mentor_pl.embedded.toolmath.operations import LARGE, OPERATIONS, WITH_SHORTCUT
from mentor_pl.embedded.toolmath.problems import Problem, Style, draw_problem
from mentor_pl.embedded.toolmath.wording import UNSEEN_WORDINGS

_ALL_PAIRS = sorted(itertools.permutations(OPERATIONS, 2))

HELD_OUT_PAIRS = frozenset(random.Random(5).sample(_ALL_PAIRS, len(_ALL_PAIRS) // 4))
"""A quarter of all ordered pairs of operations; they follow one another in the split `combo` and nowhere else."""

IN_DOMAIN = Style(shortcut_share=0.85, without_pairs=HELD_OUT_PAIRS)

SPLIT_STYLES: dict[str, Style] = {
    "train": IN_DOMAIN,
    "id": IN_DOMAIN,
    "shift": Style(shortcut_share=0.0, without_pairs=HELD_OUT_PAIRS, with_operation=WITH_SHORTCUT),
    "large": Style(size=LARGE, without_pairs=HELD_OUT_PAIRS),
    "long": Style(lengths=(3,), without_pairs=HELD_OUT_PAIRS),
    "phrase": Style(wordings=UNSEEN_WORDINGS, without_pairs=HELD_OUT_PAIRS),
    "combo": Style(lengths=(2,), only_pairs=HELD_OUT_PAIRS),
}
"""Style of each split. `train` and `id` are of one kind: 1 or 2 operations, and numbers that in 85 % of the problems let a shortcut end
at the right answer (`WITH_SHORTCUT`). `shift`: shortcuts fail. `large`: three-digit numbers. `long`: 3 operations. `phrase`: wordings
that training prompts do not use. `combo`: pairs of operations that they do not use. The last four take numbers as they come."""

EVALUATION_SPLITS = tuple(name for name in SPLIT_STYLES if name != "train")

_FIRST_SEED = 100


def draw_distinct(style: Style, count: int, seed: int, exclude: Collection[str] = ()) -> list[Problem]:
    """Draw problems with distinct questions.

    Args:
        style: What kind of problem.
        count: How many.
        seed: Decides which.
        exclude: Questions that must not turn up.
    """
    rng = random.Random(seed)
    seen = set(exclude)
    problems: list[Problem] = []
    while len(problems) < count:
        problem = draw_problem(rng, style)
        if problem.question not in seen:
            seen.add(problem.question)
            problems.append(problem)
    return problems


def draw_splits(num_train: int = 256, num_eval: int = 200) -> dict[str, list[Problem]]:
    """Draw all splits; no question stands in two of them.

    Args:
        num_train: Training prompts.
        num_eval: Problems of each evaluation split.

    Returns:
        Problems by the names of `SPLIT_STYLES`.
    """
    splits: dict[str, list[Problem]] = {}
    taken: set[str] = set()
    for number, (name, style) in enumerate(SPLIT_STYLES.items()):
        count = num_train if name == "train" else num_eval
        splits[name] = draw_distinct(style, count, _FIRST_SEED * (number + 1), taken)
        taken.update(problem.question for problem in splits[name])
    return splits
