"""The teacher as if it had been the student: its reference solutions, measured by the same metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mentor_pl.reference import Reference
from mentor_pl.references.replay import as_trajectory, replayed_outcome
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason, Trajectory, TrajectoryGroup


def teacher_trajectory(reference: Reference, toolbox: ToolBox | None = None) -> Trajectory:
    """Read a reference's `messages` as a finished trajectory.

    Args:
        reference: With a solution.
        toolbox: Runs its calls again where the tools tell a final state or score; None where that
            is not wanted.
    """
    trajectory = as_trajectory(reference, () if toolbox is None else toolbox.final_tools)
    if trajectory is None:
        raise AssertionError(f"reference {reference.reference_id!r} has no solution")
    if toolbox is None:
        return trajectory
    if trajectory.turns[-1].message.tool_calls:
        trajectory = replace(trajectory, stop_reason=StopReason.CALLED)
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
