"""MT-GRPO's advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered
from mentor_pl.trajectory import Turn


class MTGRPO(AdvantageEstimator):
    """Turns that call tools are judged by their results too, arXiv:2505.11821 eq. 5 and 6.

    A turn with calls has A_turn + weight * A_outcome, the last turn A_outcome alone. A_outcome is
    GRPO's. A_turn standardises the turn's own reward, the share of its calls that succeeded, over
    the group's turns at the same place. Departure: the paper has one turn with a call; here every
    turn that calls is one.

    Args:
        weight: Weight of the outcome in turns with calls.
        min_std: Floor of both divisors; see `GroupStandardized`.
    """

    def __init__(self, weight: float = 1.0, min_std: float = 0.0) -> None:
        self.weight = weight
        self.min_std = min_std

    def __call__(self, group: GroupRewards) -> Tensor:
        """Compare whole trajectories; see `AdvantageEstimator.__call__`."""
        return self._standardized(group.rewards)

    def per_turn(self, group: GroupRewards) -> list[list[float]]:
        """See `AdvantageEstimator.per_turn`."""
        out = [[value] * len(t.turns) for value, t in zip(self(group).tolist(), group.trajectories, strict=True)]
        for place in range(max(len(t.turns) for t in group.trajectories)):
            there = [
                (index, _turn_reward(t.turns[place]))
                for index, t in enumerate(group.trajectories)
                if place < len(t.turns) and t.turns[place].tool_results
            ]
            if not there:
                continue
            values = self._standardized(torch.tensor([reward for _, reward in there]))
            for (index, _), value in zip(there, values.tolist(), strict=True):
                out[index][place] = value + self.weight * out[index][place]
        return out

    def _standardized(self, rewards: Tensor) -> Tensor:
        difference = centered(rewards)
        if not bool(difference.any()):
            return difference
        return difference / rewards.std().clamp(min=max(self.min_std, 1e-6))


def _turn_reward(turn: Turn) -> float:
    return sum(result.ok for result in turn.tool_results) / len(turn.tool_results)
