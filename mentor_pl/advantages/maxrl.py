"""MaxRL's advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered


class MaxRL(AdvantageEstimator):
    """(reward - mean) / mean of the group, arXiv:2602.02710: estimates the gradient of log(success rate), not of the rate.

    Hard prompts, whose mean is small, weigh more. Written for rewards of 0 and 1; rewards may be
    any that are not negative.
    """

    def __call__(self, group: GroupRewards) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        mean = group.rewards.mean()
        return centered(group.rewards) / mean if mean > 1e-6 else torch.zeros_like(group.rewards)
