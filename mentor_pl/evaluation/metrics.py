"""How well a student does, and how much its use of tools resembles the teacher's: the same measure for every method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.tool_match import ToolMatch
from mentor_pl.trajectory import TrajectoryGroup

_UNKNOWN, _NONE = "(unknown)", "(no tool)"


class TaskMetrics(Metric):
    """Counts attempts at one split; correct across ranks.

    `compute` gives: `accuracy`; `tool_match`: share that used exactly a teacher's set of tools; `unknown_tool_rate`: share of calls
    that name no offered tool; `calls_per_task`; `tool_similarity`: 1 - Jensen-Shannon divergence (base 2) between student's
    and teacher's distributions over tools, with "unknown" and "no tool" as outcomes of their own; `finished`: share that ended by
    itself; `completion_tokens`: sampled tokens per task.

    Args:
        tool_names: Every tool on offer.
        **settings: Of every torchmetrics metric, for example `sync_on_compute`.
    """

    full_state_update = False

    student_tools: Tensor
    teacher_tools: Tensor

    def __init__(self, tool_names: Sequence[str], **settings: Any) -> None:
        super().__init__(**settings)
        self._outcomes = (*tool_names, _UNKNOWN, _NONE)
        self._correct = Correct()
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
            for trajectory in group.trajectories:
                names = [call.name if call.name in offered else _UNKNOWN for call in trajectory.tool_calls]
                self._add("num_tasks", 1)
                self._add("num_calls", len(names))
                self._add("num_unknown", names.count(_UNKNOWN))
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
            "accuracy": (self._get("num_correct") / tasks).float(),
            "tool_match": (self._get("num_match") / tasks).float(),
            "unknown_tool_rate": (self._get("num_unknown") / self._get("num_calls").clamp(min=1)).float(),
            "calls_per_task": (self._get("num_calls") / tasks).float(),
            "tool_similarity": (1 - jensen_shannon(self.student_tools, self.teacher_tools)).float(),
            "finished": (self._get("num_finished") / tasks).float(),
            "completion_tokens": (self._get("num_tokens") / tasks).float(),
        }

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
