"""REINFORCE++'s advantages."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered


class BatchStandardized(AdvantageEstimator):
    """(reward - mean) / std over all trajectories of the round, of all prompts and ranks (REINFORCE++, arXiv:2501.03262 eq. 8).

    Where a run has several environments, of each by itself: their rewards have scales of their own.

    Args:
        baseline: `none` takes the mean over the round only: an easy prompt's trajectories are then
            all good. `group` takes each group's mean first (REINFORCE++-baseline).
    """

    standardizes_round = True

    def __init__(self, baseline: Literal["none", "group"] = "none") -> None:
        self.baseline = baseline

    def __call__(self, group: GroupRewards) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        return centered(group.rewards) if self.baseline == "group" else group.rewards
