"""The leaderboard's columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor

from mentor_pl.evaluation.base import TrajectoryMetric
from mentor_pl.rewards.program import ScoredGroup
from mentor_pl_bfcl.cases import CATEGORIES, find_case
from mentor_pl_bfcl.reward import BFCLCorrect

_NON_LIVE = (("simple_python", "simple_java", "simple_javascript"), "multiple", "parallel", "parallel_multiple")
_LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
_MULTI_TURN = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")


class BFCLColumns(TrajectoryMetric):
    """Accuracy of every category that was tried, and the leaderboard's means of those whose parts are all there.

    As the package's `eval_runner_helper` has them: `non_live` is the mean of simple (itself a mean
    of three languages), multiple, parallel and parallel multiple; `live` is the share of all its
    cases; `multi_turn` the mean of its categories; `irrelevance` the mean of both. The overall
    score needs the agentic categories, which are not here.
    """

    correct: Tensor
    number: Tensor

    def __init__(self) -> None:
        """Count nothing yet."""
        super().__init__()
        for name in ("correct", "number"):
            self.add_state(name, torch.zeros(len(CATEGORIES), dtype=torch.float64), dist_reduce_fx="sum")
        self._judge = BFCLCorrect(unknown=math.nan)

    @property
    def name(self) -> str:
        """The prefix of every column."""
        return "bfcl"

    def update(self, groups: Sequence[ScoredGroup]) -> None:
        """Count attempts in; references that are no cases are passed over."""
        for scored in groups:
            references = scored.group.references
            case = find_case(references[0].reference_id)
            if case is None:
                continue
            place = CATEGORIES.index(case.category)
            self.number[place] += len(scored.group.trajectories)
            self.correct[place] += sum(self._judge.score(t, references) for t in scored.group.trajectories)

    def compute(self) -> dict[str, Tensor]:
        """Return accuracies by column."""
        counts = {
            category: (float(self.correct[place]), float(self.number[place]))
            for place, category in enumerate(CATEGORIES)
            if self.number[place]
        }
        return {name: torch.tensor(value) for name, value in columns(counts).items()}


def columns(counts: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return the columns.

    Args:
        counts: Right attempts and attempts of each category that was tried.
    """
    out = {category: correct / number for category, (correct, number) in counts.items()}
    if all(name in out for part in _NON_LIVE for name in ((part,) if isinstance(part, str) else part)):
        parts = [out[part] if isinstance(part, str) else fmean(out[name] for name in part) for part in _NON_LIVE]
        out["non_live"] = fmean(parts)
    if all(name in out for name in _LIVE):
        out["live"] = sum(counts[name][0] for name in _LIVE) / sum(counts[name][1] for name in _LIVE)
    for title, members in (("multi_turn", _MULTI_TURN), ("irrelevance_mean", ("irrelevance", "live_irrelevance"))):
        if all(name in out for name in members):
            out[title] = fmean(out[name] for name in members)
    return out
