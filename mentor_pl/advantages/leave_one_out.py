"""RLOO's advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered


class LeaveOneOut(AdvantageEstimator):
    """Reward - mean of the *other* trajectories (RLOO, arXiv:2402.14740)."""

    def __call__(self, group: GroupRewards) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        count = group.rewards.numel()
        if count < 2:
            return torch.zeros_like(group.rewards)
        return centered(group.rewards) * (count / (count - 1))
