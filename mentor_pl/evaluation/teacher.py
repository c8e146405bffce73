"""The teacher as if it had been the student: its reference solutions, measured by the same metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mentor_pl.files.trajectories import trajectory_from_row
from mentor_pl.reference import Reference
from mentor_pl.references.replay import replayed_outcome
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason, Trajectory, TrajectoryGroup


def teacher_trajectory(reference: Reference, toolbox: ToolBox | None = None) -> Trajectory:
    """Read a reference's `messages` as a finished trajectory.

    Args:
        reference: With a solution.
        toolbox: Runs its calls again where the tools tell a final state or score; None where that
            is not wanted.
    """
    row = {
        "reference_id": reference.reference_id,
        "messages": [message.to_openai() for message in reference.messages],
        "finished": True,
    }
    trajectory = trajectory_from_row(row, f"reference {reference.reference_id!r}")
    if toolbox is None:
        return trajectory
    if last := trajectory.turns[-1].message.tool_calls:
        handed_in = [call.arguments for call in last if call.name in toolbox.final_tools]
        trajectory = replace(trajectory, stop_reason=StopReason.CALLED, submission=handed_in[-1] if handed_in else None)
    if not toolbox.tells_state:
        return trajectory
    state, score = replayed_outcome(reference, toolbox)
    return replace(trajectory, final_state=state, environment_score=score)


def teacher_groups(prompts: Iterable[tuple[Reference, ...]], toolbox: ToolBox | None = None) -> list[TrajectoryGroup]:
    """Return the teacher's first solution of each prompt; prompts without one are left out."""
    return [
        TrajectoryGroup(references=prompt, trajectories=(teacher_trajectory(prompt[0], toolbox),))
        for prompt in prompts
        if prompt[0].messages
    ]
