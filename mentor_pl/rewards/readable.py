"""Can everything that the student wrote be read?"""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import StopReason, Trajectory

_CUT_OFF = frozenset(
    {
        StopReason.MAX_COMPLETION_TOKENS,
        StopReason.MAX_THINKING_TOKENS,
        StopReason.MAX_CONTEXT,
        StopReason.FORGED_ROLE,
    }
)


class Readable(RewardComponent):
    """1 where every call that the student wrote could be read, and no message was cut off; else 0.

    As an exit it keeps a reward that asks for *no* call from paying a call that is broken.
    """

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Look at the calls and at the stop reason."""
        broken = any(call.parse_error is not None for call in trajectory.tool_calls)
        return float(not broken and trajectory.stop_reason not in _CUT_OFF)
