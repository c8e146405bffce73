"""Metrics that come with the program and are of use for some tasks only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mentor_pl.evaluation.base import TrajectoryMean, TrajectoryMetric
from mentor_pl.reference import Reference
from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.trajectory import StopReason, Trajectory


class StopReasons(TrajectoryMetric):
    """How attempts end: the share of each stop reason that occurs, as `stop_reasons/<reason>`."""

    ends: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("ends", torch.zeros(len(StopReason), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, groups: Sequence[ScoredGroup]) -> None:
        """Count how attempts end."""
        reasons = list(StopReason)
        for scored in groups:
            for trajectory in scored.group.trajectories:
                self.ends[reasons.index(trajectory.stop_reason)] += 1

    def compute(self) -> dict[str, Tensor]:
        """Return the shares."""
        shares = self.ends / self.ends.sum()
        return {reason.value: share.float() for reason, share in zip(StopReason, shares, strict=True) if share > 0}


class FailedCalls(TrajectoryMean):
    """Share of an attempt's calls that were run and failed, mean over the attempts that ran any."""

    def value(self, trajectory: Trajectory, references: Sequence[Reference]) -> float | None:
        """Return the share of failed calls."""
        results = trajectory.tool_results
        return sum(not result.ok for result in results) / len(results) if results else None
