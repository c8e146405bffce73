"""Advantages from the rewards of a group; one small class per estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class AdvantageEstimator(ABC):
    """Compares the trajectories of one prompt with each other."""

    @abstractmethod
    def __call__(self, rewards: Tensor) -> Tensor:
        """Return one advantage per trajectory.

        Args:
            rewards: Of the trajectories that count, [G] with G >= 1; those that the infrastructure broke are not among them.

        Returns:
            [G]; all 0 where all rewards are equal.
        """


class GroupStandardized(AdvantageEstimator):
    """(reward - mean) / std of the group, arXiv:2402.03300 section 4.1.2.

    Args:
        min_std: Floor of the divisor. With 0 (the paper's), once a whole group is right, a small bonus that only some earn is
            blown up to the full signal; a floor near the std of right and wrong answers keeps terms in proportion.
    """

    def __init__(self, min_std: float = 0.0) -> None:
        self.min_std = min_std

    def __call__(self, rewards: Tensor) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        centered = _centered(rewards)
        if not bool(centered.any()):
            return centered
        return centered / rewards.std().clamp(min=max(self.min_std, 1e-6))


class GroupCentered(AdvantageEstimator):
    """Reward - mean of the group, without the division (Dr. GRPO, arXiv:2503.20783)."""

    def __call__(self, rewards: Tensor) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        return _centered(rewards)


class LeaveOneOut(AdvantageEstimator):
    """Reward - mean of the *other* trajectories (RLOO, arXiv:2402.14740)."""

    def __call__(self, rewards: Tensor) -> Tensor:
        """See `AdvantageEstimator.__call__`."""
        count = rewards.numel()
        if count < 2:
            return torch.zeros_like(rewards)
        return _centered(rewards) * (count / (count - 1))


def _centered(rewards: Tensor) -> Tensor:
    """Reward - mean, exactly 0 where all are equal: rounding of the mean must not look like a signal, [G]."""
    centered = rewards - rewards.mean()
    return torch.zeros_like(rewards) if bool(centered.abs().max() < 1e-6) else centered
