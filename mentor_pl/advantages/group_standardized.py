"""GRPO's advantages."""

from __future__ import annotations

from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered, checked_min_std


class GroupStandardized(AdvantageEstimator):
    """(reward - mean) / std of the group, arXiv:2402.03300 section 4.1.2.

    Args:
        min_std: Floor of the divisor. With 0 (the paper's), once a whole group is right, a small
            bonus that only some earn is blown up to the full signal; a floor near the std of right
            and wrong answers keeps terms in proportion.
    """

    def __init__(self, min_std: float = 0.0) -> None:
        self.min_std = checked_min_std(type(self).__name__, min_std)

    def __call__(self, group: GroupRewards) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        difference = centered(group.rewards)
        if not bool(difference.any()):
            return difference
        return difference / group.rewards.std().clamp(min=max(self.min_std, 1e-6))
