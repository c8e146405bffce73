"""Did the student call only tools that exist?"""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class KnownTools(RewardComponent):
    """1 where every call names a tool that was offered, or where there is no call; else 0.

    A call whose name cannot be read names no tool that was offered.
    """

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Compare the names called with those offered."""
        offered = {tool.name for reference in references for tool in reference.tools}
        return float(all(call.name in offered for call in trajectory.tool_calls))
