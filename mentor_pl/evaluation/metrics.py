"""How well a student does, and how much its use of tools resembles the teacher's: the same measure for every method."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.rewards.tool_match import ToolMatch
from mentor_pl.trajectory import TrajectoryGroup

_UNKNOWN, _NONE = "(unknown)", "(no tool)"


class TaskMetrics(Metric):
    """Counts attempts at one split; correct across ranks.

    `compute` gives: `reward` and `score/<term>`: means of the reward and of each of its terms; `success`: mean of the term
    that says whether a trajectory succeeded, where there is one, and `accuracy`, the same (without a reward: share with
    the right answer); `tool_match`: share that used exactly a teacher's set of tools; `unknown_tool_rate`: share of calls
    that name no offered tool; `calls_per_task`; `tool_similarity`: 1 - Jensen-Shannon divergence (base 2) between student's
    and teacher's distributions over tools, with "unknown" and "no tool" as outcomes of their own; `finished`: share that ended by
    itself; `completion_tokens`: sampled tokens per task.

    Args:
        tool_names: Every tool on offer.
        reward: What the split is measured by; None where only answers are judged.
        **settings: Of every torchmetrics metric, for example `sync_on_compute`.
    """

    full_state_update = False

    student_tools: Tensor
    teacher_tools: Tensor
    score_sums: Tensor
    score_counts: Tensor

    def __init__(self, tool_names: Sequence[str], reward: RewardProgram | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._outcomes = (*tool_names, _UNKNOWN, _NONE)
        self._reward = reward
        self._correct = Correct() if reward is None else None
        terms = () if reward is None else tuple(term.name for term in reward.terms)
        self._measured = ("reward", *(f"score/{term}" for term in terms))
        # Of the reward, then of each term: sum and number of scores, for some may not be there.
        for name in ("score_sums", "score_counts"):
            self.add_state(name, torch.zeros(len(self._measured), dtype=torch.float64), dist_reduce_fx="sum")
        self._tool_match = ToolMatch(mode="exact")
        zero = torch.zeros((), dtype=torch.float64)
        for name in ("num_tasks", "num_calls", "num_unknown", "num_correct", "num_match", "num_finished", "num_tokens"):
            self.add_state(name, zero.clone(), dist_reduce_fx="sum")
        for name in ("student_tools", "teacher_tools"):
            self.add_state(name, torch.zeros(len(self._outcomes), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, groups: Iterable[TrajectoryGroup]) -> None:
        """Count every trajectory of every group."""
        for group in groups:
            first = group.references[0]
            offered = {tool.name for tool in first.tools}
            if self._reward is not None:
                self._score(self._reward.score_group(group))
            for trajectory in group.trajectories:
                names = [call.name if call.name in offered else _UNKNOWN for call in trajectory.tool_calls]
                self._add("num_tasks", 1)
                self._add("num_calls", len(names))
                self._add("num_unknown", names.count(_UNKNOWN))
                if self._correct is not None:
                    self._add("num_correct", self._correct.score(trajectory, group.references))
                self._add("num_match", self._tool_match.score(trajectory, group.references))
                self._add("num_finished", trajectory.finished)
                self._add("num_tokens", trajectory.num_sampled_tokens)
                self._count("student_tools", names)
                self._count("teacher_tools", [call.name for call in first.tool_calls])

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by name; see the class."""
        tasks = self._get("num_tasks").clamp(min=1)
        return {
            **self._means(tasks),
            "tool_match": (self._get("num_match") / tasks).float(),
            "unknown_tool_rate": (self._get("num_unknown") / self._get("num_calls").clamp(min=1)).float(),
            "calls_per_task": (self._get("num_calls") / tasks).float(),
            "tool_similarity": (1 - jensen_shannon(self.student_tools, self.teacher_tools)).float(),
            "finished": (self._get("num_finished") / tasks).float(),
            "completion_tokens": (self._get("num_tokens") / tasks).float(),
        }

    def _score(self, scored: ScoredGroup) -> None:
        for place, row in enumerate((scored.rewards, *scored.scores.values())):
            there = [value for value in row if not math.isnan(value)]
            self.score_sums[place] += sum(there)
            self.score_counts[place] += len(there)

    def _means(self, tasks: Tensor) -> dict[str, Tensor]:
        if self._reward is None:
            return {"accuracy": (self._get("num_correct") / tasks).float()}
        means = (self.score_sums / self.score_counts.clamp(min=1)).float()
        named = dict(zip(self._measured, means, strict=True))
        if (term := self._reward.success_term) is None:
            return named
        success = named[f"score/{term}"]
        return {"success": success, "accuracy": success, **named}

    def _get(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))

    def _add(self, name: str, value: float) -> None:
        setattr(self, name, self._get(name) + value)

    def _count(self, name: str, tools: Sequence[str]) -> None:
        counts = Counter(tools or [_NONE])
        row = [float(counts[outcome]) for outcome in self._outcomes]
        setattr(self, name, self._get(name) + torch.tensor(row, dtype=torch.float64, device=self._get(name).device))


def jensen_shannon(counts_p: Tensor, counts_q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence in bits, in [0, 1], of two distributions given as counts, each [K].

    Lin 1991, doi:10.1109/18.61115. Where either has no counts at all it is 1.
    """
    if not bool(counts_p.sum() > 0) or not bool(counts_q.sum() > 0):
        return torch.ones((), dtype=torch.float64)
    p, q = counts_p / counts_p.sum(), counts_q / counts_q.sum()
    middle = (p + q) / 2
    terms = torch.xlogy(p, p / middle.clamp(min=1e-300)) + torch.xlogy(q, q / middle.clamp(min=1e-300))
    return (terms.sum() / 2 / torch.log(torch.tensor(2.0, dtype=torch.float64))).clamp(0, 1)
