"""The teacher as if it had been the student: its reference solutions, measured by the same metrics."""

from __future__ import annotations

from collections.abc import Iterable

from mentor_pl.files.trajectories import trajectory_from_row
from mentor_pl.reference import Reference
from mentor_pl.trajectory import Trajectory, TrajectoryGroup


def teacher_trajectory(reference: Reference) -> Trajectory:
    """Read a reference's `messages` as a finished trajectory."""
    row = {
        "reference_id": reference.reference_id,
        "messages": [message.to_openai() for message in reference.messages],
        "finished": True,
    }
    return trajectory_from_row(row, f"reference {reference.reference_id!r}")


def teacher_groups(prompts: Iterable[tuple[Reference, ...]]) -> list[TrajectoryGroup]:
    """Return the teacher's first solution of each prompt; prompts without one are left out."""
    return [
        TrajectoryGroup(references=prompt, trajectories=(teacher_trajectory(prompt[0]),))
        for prompt in prompts
        if prompt[0].messages
    ]
