"""All that is measured of one split: its reward, its use of tools, several samples, and metrics of one's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from mentor_pl.errors import ConfigError, PluginError
from mentor_pl.evaluation.base import TrajectoryMetric
from mentor_pl.evaluation.metrics import TaskMetrics
from mentor_pl.evaluation.success import SuccessRates
from mentor_pl.plugins import keeping_contract
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.program import RewardProgram, RewardTerm, ScoredGroup
from mentor_pl.trajectory import TrajectoryGroup


class SplitMetrics:
    """Measures the attempts at one split.

    Args:
        tool_names: Every tool on offer.
        reward: What the split is measured by. None: by whether the answer is right, where a prompt
            has one.
        samples: Attempts at each problem; with more than one, mean@k, pass@k and pass^k are
            measured.
        own: Further metrics; copied.
        sync: Whether the ranks' counts are added up; False where one rank has all of them.

    Raises:
        ConfigError: Two of `own` have one name.
    """

    def __init__(
        self,
        tool_names: Sequence[str],
        reward: RewardProgram | None = None,
        *,
        samples: int = 1,
        own: Sequence[TrajectoryMetric] = (),
        sync: bool = True,
    ) -> None:
        self._judged_by_answer = reward is None
        self._program = reward or RewardProgram(
            terms=(RewardTerm(name="correct", component=Correct(), weight=1.0, success=True),)
        )
        self._success_term = self._program.success_term
        self._task = TaskMetrics(
            tool_names,
            terms=() if reward is None else [term.name for term in reward.terms],
            success_term=self._success_term,
            success_is_accuracy=any(
                term.name == self._success_term and isinstance(term.component, Correct) for term in self._program.terms
            ),
            sync_on_compute=sync,
        )
        rated = samples > 1 and self._success_term is not None
        self._rates = SuccessRates(samples, sync_on_compute=sync) if rated else None
        self._own = named_metrics(own)
        for metric in self._own.values():
            metric.sync_on_compute = sync

    @property
    def success_term(self) -> str | None:
        """The term of the split's reward that the success is taken from; None where it has no reward, or no such term."""
        return None if self._judged_by_answer else self._success_term

    def to(self, device: torch.device | str) -> SplitMetrics:
        """Move all counts to a device."""
        for metric in self._all():
            metric.to(device)
        return self

    def _all(self) -> Iterable[TaskMetrics | SuccessRates | TrajectoryMetric]:
        return (self._task, *([self._rates] if self._rates else []), *self._own.values())

    def update(self, groups: Iterable[TrajectoryGroup]) -> None:
        """Score and count every attempt of every group.

        Raises:
            RewardError: A component of the reward broke its contract.
            PluginError: A metric of one's own failed.
        """
        scored = [self._scored(group) for group in groups]
        whole = [told for told in map(_told, scored) if told.group.trajectories]
        broken = sum(len(group.rewards) for group in scored) - sum(len(group.rewards) for group in whole)
        self._task.update(whole, num_broken=broken)
        if self._rates is not None and self._success_term is not None:
            self._rates.update([group.scores[self._success_term] for group in whole])
        for name, metric in self._own.items():
            try:
                metric.update(whole)
            except Exception as failure:
                raise _failure(name, metric, failure) from failure

    def _scored(self, group: TrajectoryGroup) -> ScoredGroup:
        scored = self._program.score_group(group)
        if self._judged_by_answer and not any(reference.answers for reference in group.references):
            unknown = (math.nan,) * len(scored.rewards)
            return replace(scored, scores=dict.fromkeys(scored.scores, unknown))
        return scored

    def compute(self) -> dict[str, Tensor]:
        """Return every metric by name; see `TaskMetrics`, `SuccessRates` and the metrics of one's own.

        Raises:
            PluginError: A metric of one's own failed.
        """
        out = self._task.compute() | (self._rates.compute() if self._rates else {})
        for name, metric in self._own.items():
            try:
                found = metric.compute()
                named = {f"{name}/{key}": v for key, v in found.items()} if isinstance(found, dict) else {name: found}
                out |= {key: value for key, value in named.items() if not math.isnan(float(value))}
            except Exception as failure:
                raise _failure(name, metric, failure) from failure
        return out


def named_metrics(metrics: Sequence[TrajectoryMetric]) -> dict[str, TrajectoryMetric]:
    """Return fresh copies of metrics by name.

    Raises:
        ConfigError: Two have one name.
    """
    named: dict[str, TrajectoryMetric] = {}
    for metric in metrics:
        with keeping_contract(metric):
            name: Any = metric.name
            copied = cast(TrajectoryMetric, metric.clone())
            copied.reset()
        if not isinstance(name, str) or name in named:
            wrong = f"two metrics are named {name!r}" if name in named else f"a metric is named {name!r}"
            raise ConfigError(f"{wrong}; let {type(metric).__name__} say another `name`")
        named[name] = copied
    return named


def _told(scored: ScoredGroup) -> ScoredGroup:
    """Leave out what the infrastructure broke: it says nothing about the student."""
    return scored.select([i for i, t in enumerate(scored.group.trajectories) if not t.failed_infrastructure])


def _failure(name: str, metric: TrajectoryMetric, failure: Exception) -> PluginError:
    return PluginError(
        f"metric {name!r} ({type(metric).__name__}) raised {type(failure).__name__}: {failure}; "
        "a metric must count whatever a student wrote"
    )
