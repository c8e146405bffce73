"""Rewards that ruin a run, to try the guard against collapse on."""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class AnyCall(RewardComponent):
    """More calls, more reward, whatever comes of them."""

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Score the number of calls, seven being the most."""
        return min(len(trajectory.tool_calls) / 7, 1.0)


class ShortAnswerJudge(RewardComponent):
    """A judge that is wrong: it takes answers without a call for right."""

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Score 1 where the student finished without a call."""
        return float(trajectory.finished and not trajectory.tool_calls)
