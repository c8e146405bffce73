"""Did the student end by itself?"""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class Finished(RewardComponent):
    """1 where the student ended by itself, 0 where a budget or a forged role ended it."""

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Look at the stop reason."""
        return float(trajectory.finished)
