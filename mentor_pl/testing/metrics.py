"""The contract of metrics of a split."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mentor_pl.errors import PluginError
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.finished import Finished
from mentor_pl.rewards.program import RewardProgram, RewardTerm, ScoredGroup
from mentor_pl.testing.contract import require
from mentor_pl.testing.rewards import awkward_trajectories
from mentor_pl.trajectory import TrajectoryGroup

if TYPE_CHECKING:
    from mentor_pl.evaluation.base import TrajectoryMetric

_RANKS = "what two ranks count must add up to what one would: register states with add_state(..., dist_reduce_fx=...)"


def scored(*groups: TrajectoryGroup, component: RewardComponent | None = None) -> list[ScoredGroup]:
    """Score groups for a test of a metric.

    Args:
        groups: Attempts, as `TrajectoryGroup(references=..., trajectories=...)`.
        component: Scores them, as the term `correct`; `Finished` unless given.
    """
    program = RewardProgram(terms=(RewardTerm(name="correct", component=component or Finished(), weight=1.0),))
    return [program.score_group(group) for group in groups]


def check_trajectory_metric(metric: TrajectoryMetric) -> None:
    """Check that a metric counts whatever an untrained student does, and the same on several ranks as on one.

    Args:
        metric: Any instance; nothing is counted in it.

    Raises:
        PluginError: It breaks the contract of its plugin point.
    """
    name = metric.name
    require(
        re.fullmatch(r"[\w.@^-]+", name) is not None,
        metric,
        f"its name is {name!r}",
        "a name is letters, digits and _.@^-, for logs and tables use it",
    )
    groups = scored(*(TrajectoryGroup(references=tuple(refs), trajectories=(t,)) for t, refs in awkward_trajectories()))
    whole = _values(metric, groups)
    for key, value in whole.items():
        require(not math.isinf(value), metric, f"{key} is {value}", "a metric is a finite number, or nan for none")
    _values(metric, [])
    again = _values(metric, groups)
    require(_close(whole, again), metric, f"it gave {whole}, then {again}", "the same attempts give the same numbers")
    parts = _counted(metric, [])
    for place in range(0, len(groups), 7):
        parts.update(groups[place : place + 7])
    require(
        _close(whole, _read(parts)),
        metric,
        f"attempts counted in parts give {_read(parts)}, at once {whole}",
        "batches may be of any size",
    )
    first, second = _counted(metric, groups[::2]), _counted(metric, groups[1::2])
    try:
        first.merge_state(second)
        merged = _read(first)
    except Exception as failure:  # whatever a stranger's states do in torchmetrics is the contract's matter
        raise PluginError(
            f"{type(metric).__name__}: states of two ranks cannot be put together ({failure}); {_RANKS}"
        ) from failure
    require(_close(whole, merged), metric, f"two ranks give {merged}, one {whole}", _RANKS)
    first.reset()
    first.update(groups)
    require(_close(whole, _read(first)), metric, "reset() leaves something behind", "each evaluation counts anew")


def _counted(metric: TrajectoryMetric, groups: Sequence[ScoredGroup]) -> TrajectoryMetric:
    fresh = cast("TrajectoryMetric", copy.deepcopy(metric))
    fresh.reset()
    fresh.update(groups)
    return fresh


def _values(metric: TrajectoryMetric, groups: Sequence[ScoredGroup]) -> dict[str, float]:
    return _read(_counted(metric, groups))


def _read(metric: TrajectoryMetric) -> dict[str, float]:
    found = metric.compute()
    named = found if isinstance(found, dict) else {"": found}
    for key, value in named.items():
        require(
            getattr(value, "ndim", 0) == 0,
            metric,
            f"{key or 'it'} has the shape {tuple(getattr(value, 'shape', ()))}",
            "compute gives one number, or one by name",
        )
    return {key: float(value) for key, value in named.items()}


def _close(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        math.isclose(one[key], other[key], rel_tol=1e-5, abs_tol=1e-6)
        or (math.isnan(one[key]) and math.isnan(other[key]))
        for key in one
    )
