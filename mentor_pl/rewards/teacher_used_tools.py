"""Is there a teacher to be guided by?"""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class TeacherUsedTools(RewardComponent):
    """1 where some reference of the prompt calls a tool, else 0. Says nothing about the student: made for exits."""

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Look for a call of a teacher."""
        return float(any(reference.tool_calls for reference in references))
