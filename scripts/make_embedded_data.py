"""Write the embedded task's references to mentor_pl/embedded/data: `python scripts/make_embedded_data.py`. The same files every time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import mentor_pl.embedded
from mentor_pl.embedded.toolmath import EVALUATION_SPLITS, TEACHERS, Problem, draw_splits
from mentor_pl.files import write_references
from mentor_pl.reference import Reference

DATA = Path(mentor_pl.embedded.__file__).parent / "data"

EVALUATION_TEACHER = "parallel"
"""Whose references the evaluation splits hold. Both teachers use the same tools on a problem, so every measure is the same for both."""


def references(problems: Iterable[Problem], split: str, teacher: str) -> list[Reference]:
    """Let a teacher solve the problems of a split."""
    return [
        TEACHERS[teacher](problem, f"{split}-{number:03d}-{teacher}", split) for number, problem in enumerate(problems)
    ]


def make_files(target: Path) -> None:
    """Write all files below `target`."""
    splits = draw_splits()
    files = {f"train.{teacher}.jsonl": references(splits["train"], "train", teacher) for teacher in TEACHERS}
    files |= {
        f"eval/{split}.jsonl": references(splits[split], split, EVALUATION_TEACHER) for split in EVALUATION_SPLITS
    }
    for name, rows in files.items():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        count = write_references(file, rows)
        print(f"{count} references in {file.name}, {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    make_files(DATA)
