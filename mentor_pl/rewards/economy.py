"""Did the student succeed with few and cheap calls?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mentor_pl.errors import ConfigError, RewardError
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import NoScore, RewardComponent
from mentor_pl.rewards.correct import Correct
from mentor_pl.trajectory import Trajectory, TrajectoryGroup


class Economy(RewardComponent):
    """Pays a success the more, the nearer its calls come to the cheapest success of its group: OTC-PO, arXiv:2504.14870 section 3.3.

    With m the cost of a trajectory's calls and n the least cost among the group's successes:

    - not a success: 0
    - m = n = 0: 1
    - n = 0 < m: cos(m pi / (2 m + decay))
    - else: sin(f pi / (2 n)) with f = 2 n m / (m + n), which is 1 at m = n and falls towards 0 as m
      grows

    Departure: the paper counts calls, where every tool costs 1.

    Args:
        success: Decides what is a success, by a score of at least 0.5; `Correct` with its defaults
            where left out.
        costs: Cost of a call of each tool, at least 0; 1 where a tool is not named.
        decay: The paper's c: the larger, the more is paid where calls were not needed.
    """

    def __init__(
        self, success: RewardComponent | None = None, costs: Mapping[str, float] | None = None, decay: float = 1.0
    ) -> None:
        for name, cost in (costs or {}).items():
            if not (math.isfinite(cost) and cost >= 0):
                raise ConfigError(f"Economy: the cost of {name!r} is {cost}; it must be a number at or above 0")
        if decay <= 0:
            raise ConfigError(f"Economy: decay is {decay}; it must be above 0")
        self.success = success or Correct()
        self.costs = dict(costs or {})
        self.decay = decay

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Score a group of one: any success is its cheapest."""
        alone = self.score_group(TrajectoryGroup(references=tuple(references), trajectories=(trajectory,)))[0]
        if isinstance(alone, NoScore):
            raise RewardError(f"Economy: {alone.reason}")
        return alone

    def score_group(self, group: TrajectoryGroup) -> list[float | NoScore]:
        """Compare the costs of a group's successes; no score where a success could not be told."""
        costs = [math.fsum(self.costs.get(c.name, 1.0) for c in t.tool_calls) for t in group.trajectories]
        successes = self.success.score_group(group)
        least = min((cost for cost, success in zip(costs, successes, strict=True) if _is_success(success)), default=0.0)
        return [
            success if isinstance(success, NoScore) else self._paid(cost, least) if _is_success(success) else 0.0
            for cost, success in zip(costs, successes, strict=True)
        ]

    def _paid(self, cost: float, least: float) -> float:
        if least == 0:
            return 1.0 if cost == 0 else math.cos(cost * math.pi / (2 * cost + self.decay))
        return math.sin(cost / (cost + least) * math.pi)


def _is_success(score: float | NoScore) -> bool:
    return not isinstance(score, NoScore) and score >= 0.5
