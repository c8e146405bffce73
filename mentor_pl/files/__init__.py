"""References and trajectories in the OpenAI chat format: JSON Lines, and whatever tables they lie in."""

from mentor_pl.files.jsonl import AppendWriter, write_rows
from mentor_pl.files.references import (
    iter_references,
    read_references,
    reference_from_row,
    reference_to_row,
    write_references,
)
from mentor_pl.files.tables import read_rows, read_table
from mentor_pl.files.trajectories import iter_trajectories, trajectory_from_row, trajectory_to_row

__all__ = [
    "AppendWriter",
    "iter_references",
    "iter_trajectories",
    "read_references",
    "read_rows",
    "read_table",
    "reference_from_row",
    "reference_to_row",
    "trajectory_from_row",
    "trajectory_to_row",
    "write_references",
    "write_rows",
]
