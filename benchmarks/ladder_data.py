"""Training prompts with chains of three operations beside those of the embedded task, for the arms that are to learn `long`."""

from __future__ import annotations

from pathlib import Path

from mentor_pl.embedded.toolmath import TEACHERS, draw_splits
from mentor_pl.embedded.toolmath.splits import SPLIT_STYLES, draw_distinct
from mentor_pl.files import write_references

NUM_CHAINS = 128
_SEED = 9000


def write_chains(folder: Path) -> None:
    """Write `chains.<teacher>.jsonl`: the training prompts, and chains whose questions stand in no split."""
    splits = draw_splits()
    taken = {problem.question for problems in splits.values() for problem in problems}
    problems = splits["train"] + draw_distinct(SPLIT_STYLES["long"], NUM_CHAINS, _SEED, taken)
    folder.mkdir(parents=True, exist_ok=True)
    for teacher, solve in TEACHERS.items():
        rows = [solve(problem, f"train-{number:03d}-{teacher}", "train") for number, problem in enumerate(problems)]
        write_references(folder / f"chains.{teacher}.jsonl", rows)
