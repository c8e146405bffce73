"""Dr. GRPO's advantages."""

from __future__ import annotations

from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered


class GroupCentered(AdvantageEstimator):
    """Reward - mean of the group, without the division (Dr. GRPO, arXiv:2503.20783)."""

    def __call__(self, group: GroupRewards) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        return centered(group.rewards)
