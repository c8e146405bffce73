"""References and trajectories as JSON Lines files in the OpenAI chat format."""

from mentor_pl.files.jsonl import AppendWriter, read_rows, write_rows
from mentor_pl.files.references import (
    iter_references,
    read_references,
    reference_from_row,
    reference_to_row,
    write_references,
)
from mentor_pl.files.trajectories import iter_trajectories, trajectory_from_row, trajectory_to_row

__all__ = [
    "AppendWriter",
    "iter_references",
    "iter_trajectories",
    "read_references",
    "read_rows",
    "reference_from_row",
    "reference_to_row",
    "trajectory_from_row",
    "trajectory_to_row",
    "write_references",
    "write_rows",
]
