"""GiGPO's advantages."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import torch
from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards, centered
from mentor_pl.trajectory import Trajectory


class GiGPO(AdvantageEstimator):
    """Compares trajectories, and turns that were taken in the same state, arXiv:2505.10978 eq. 3 to 8.

    A turn's advantage is A_trajectory + weight * A_turn. A_turn compares its return,
    discount^(turns to the end) * reward, with the returns of all turns of the group that were taken
    in the same state. A state is the conversation so far: calls and results, each by its content,
    so that two trajectories part only where they act differently. A state that occurs once has
    A_turn 0.

    Args:
        weight: Weight of the comparison of turns.
        discount: Discount per turn; in (0, 1].
        divide_by: `std` of what is compared (GRPO), or `none`.
        min_std: Floor of the divisor; see `GroupStandardized`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        discount: float = 0.95,
        divide_by: Literal["std", "none"] = "std",
        min_std: float = 0.0,
    ) -> None:
        self.weight = weight
        self.discount = discount
        self.divide_by = divide_by
        self.min_std = min_std

    def __call__(self, group: GroupRewards) -> Tensor:
        """Compare whole trajectories; see `AdvantageEstimator.__call__`."""
        return self._compared(group.rewards)

    def per_turn(self, group: GroupRewards) -> list[list[float]]:
        """See `AdvantageEstimator.per_turn`."""
        outcome = self(group).tolist()
        places: dict[object, list[tuple[int, int]]] = defaultdict(list)
        for index, trajectory in enumerate(group.trajectories):
            for turn, state in enumerate(_states(trajectory)):
                places[state].append((index, turn))
        out = [[value] * len(t.turns) for value, t in zip(outcome, group.trajectories, strict=True)]
        for same in places.values():
            returns = torch.stack(
                [
                    group.rewards[index] * self.discount ** (len(group.trajectories[index].turns) - 1 - turn)
                    for index, turn in same
                ]
            )
            for (index, turn), value in zip(same, self._compared(returns).tolist(), strict=True):
                out[index][turn] += self.weight * value
        return out

    def _compared(self, returns: Tensor) -> Tensor:
        difference = centered(returns)
        if self.divide_by == "none" or not bool(difference.any()):
            return difference
        return difference / returns.std().clamp(min=max(self.min_std, 1e-6))


def _states(trajectory: Trajectory) -> list[object]:
    """Return what each turn was taken in: all said, called and answered before, without the ids of calls."""
    states: list[object] = []
    past: tuple[object, ...] = ()
    for turn in trajectory.turns:
        states.append(past)
        calls = tuple((call.name, repr(sorted(call.arguments.items()))) for call in turn.message.tool_calls)
        past = (*past, turn.message.content, calls, tuple(result.content for result in turn.tool_results))
    return states
