"""The plugin point for metrics of a split (entry-point group `mentor_pl.metrics`)."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from mentor_pl.reference import Reference
from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.trajectory import Trajectory


class TrajectoryMetric(Metric):
    """Measures the attempts at a split: an ordinary `torchmetrics.Metric`, named in `data.metrics`.

    Each split has a copy of its own. Register every state with `add_state(...,
    dist_reduce_fx=...)`, so that several ranks give what one gives. Constructor arguments are the
    metric's YAML keys. Check an implementation with `mentor_pl.testing.check_trajectory_metric`.
    """

    full_state_update = False

    @property
    def name(self) -> str:
        """How logs, tables and `summary.json` name it: the class's name in snake case unless overridden."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @abstractmethod
    def update(self, groups: Sequence[ScoredGroup]) -> None:
        """Count attempts in.

        Args:
            groups: Problems with their attempts, at least one each, and the scores of every term of
                the split's reward. Attempts that the infrastructure broke are left out. A score may
                be nan where it could not be told.
        """

    @abstractmethod
    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return one number, or several by name, which are shown as `<name>/<key>`. nan is not shown."""


class TrajectoryMean(TrajectoryMetric):
    """Base of a metric that is a mean over attempts: `value` gives what each one counts."""

    total: Tensor
    number: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("number", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def value(self, trajectory: Trajectory, references: Sequence[Reference]) -> float | None:
        """Return what one attempt counts; None where it has no part in the mean.

        Args:
            trajectory: What the student did.
            references: Every reference of its prompt, at least one.
        """

    def update(self, groups: Sequence[ScoredGroup]) -> None:
        """Count attempts in."""
        for scored in groups:
            values = [self.value(trajectory, scored.group.references) for trajectory in scored.group.trajectories]
            counted = [value for value in values if value is not None]
            self.total += sum(counted)
            self.number += len(counted)

    def compute(self) -> Tensor:
        """Return the mean; nan where no attempt has a part in it."""
        return (self.total / self.number).float()
