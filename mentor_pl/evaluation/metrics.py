"""How well a student does, and how much its use of tools resembles the teacher's: the same measure for every method."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from mentor_pl.rewards.program import ScoredGroup, has_teacher
from mentor_pl.rewards.tool_match import ToolMatch

_UNKNOWN, _NONE = "(unknown)", "(no tool)"


class TaskMetrics(Metric):
    """Counts attempts at one split; correct across ranks.

    `compute` gives what there was something to measure by, and nothing else:

    - of every split: `finished`: share that ended by itself; `completion_tokens`: sampled tokens
      per task; `infrastructure`: share of attempts that the infrastructure broke, which count
      nowhere else;
    - of a reward: `reward` and `score/<term>`: means of the reward and of each of its terms;
    - of a term that says so: `success`: its mean, and `accuracy`, the same, where it is whether the
      answer is right;
    - where tools are offered: `unknown_tool_rate`: share of calls that name no offered tool;
      `calls_per_task`;
    - where there is a teacher's solution: `tool_match`: share that used exactly a teacher's set of
      tools; `tool_similarity`: 1 - Jensen-Shannon divergence (base 2) between student's and
      teacher's distributions over tools, with "unknown" and "no tool" as outcomes of their own.

    Args:
        tool_names: Every tool on offer.
        terms: Of the reward that is shown; empty where none is.
        success_term: The term whose score says if a trajectory succeeded; None where none does.
        success_is_accuracy: Whether that term judges the answer.
        **settings: Of every torchmetrics metric, for example `sync_on_compute`.
    """

    full_state_update = False

    student_tools: Tensor
    teacher_tools: Tensor
    score_sums: Tensor
    score_counts: Tensor

    def __init__(
        self,
        tool_names: Sequence[str],
        *,
        terms: Sequence[str] = (),
        success_term: str | None = None,
        success_is_accuracy: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._outcomes = (*tool_names, _UNKNOWN, _NONE)
        self._success_term, self._success_is_accuracy = success_term, success_is_accuracy
        self._terms = tuple(terms)
        self._measured = ("success", "reward", *(f"score/{term}" for term in terms))
        # Of the success, the reward, each term: sum and number of scores, for some may not be there.
        for name in ("score_sums", "score_counts"):
            self.add_state(name, torch.zeros(len(self._measured), dtype=torch.float64), dist_reduce_fx="sum")
        self._tool_match = ToolMatch(mode="exact")
        zero = torch.zeros((), dtype=torch.float64)
        for name in (
            "tasks",
            "broken",
            "with_tools",
            "with_teacher",
            "calls",
            "unknown",
            "match",
            "finished",
            "tokens",
        ):
            self.add_state(f"num_{name}", zero.clone(), dist_reduce_fx="sum")
        for name in ("student_tools", "teacher_tools"):
            self.add_state(name, torch.zeros(len(self._outcomes), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, groups: Iterable[ScoredGroup], *, num_broken: int = 0) -> None:
        """Count every trajectory of every group.

        Args:
            groups: Attempts with their scores.
            num_broken: Attempts that the infrastructure broke, which are in no group.
        """
        self._add("broken", num_broken)
        for scored in groups:
            self._add_scores(scored)
            references = scored.group.references
            offered = {tool.name for tool in references[0].tools}
            guided = has_teacher(references)
            for trajectory in scored.group.trajectories:
                names = [call.name if call.name in offered else _UNKNOWN for call in trajectory.tool_calls]
                self._add("tasks", 1)
                self._add("with_tools", bool(offered))
                self._add("calls", len(names))
                self._add("unknown", names.count(_UNKNOWN))
                self._add("finished", trajectory.finished)
                self._add("tokens", trajectory.num_sampled_tokens)
                if guided:
                    self._add("with_teacher", 1)
                    self._add("match", self._tool_match.score(trajectory, references))
                    self._count("student_tools", names)
                    self._count("teacher_tools", [call.name for call in references[0].tool_calls])

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by name; see the class."""
        out = self._means()
        attempts = self._get("tasks") + self._get("broken")
        if self._get("with_teacher"):
            out["tool_match"] = self._get("match") / self._get("with_teacher")
            out["tool_similarity"] = 1 - jensen_shannon(self.student_tools, self.teacher_tools)
        if self._get("with_tools"):
            out["unknown_tool_rate"] = self._get("unknown") / self._get("calls").clamp(min=1)
            out["calls_per_task"] = self._get("calls") / self._get("tasks")
        for name, total in (("finished", "finished"), ("completion_tokens", "tokens")):
            if self._get("tasks"):
                out[name] = self._get(total) / self._get("tasks")
        if attempts:
            out["infrastructure"] = self._get("broken") / attempts
        return {name: value.float() for name, value in out.items()}

    def _add_scores(self, scored: ScoredGroup) -> None:
        success = () if self._success_term is None else scored.scores[self._success_term]
        shown = (scored.rewards, *(scored.scores[term] for term in self._terms)) if self._terms else ()
        for place, row in enumerate((success, *shown)):
            told = [value for value in row if not math.isnan(value)]
            self.score_sums[place] += sum(told)
            self.score_counts[place] += len(told)

    def _means(self) -> dict[str, Tensor]:
        means = {
            name: self.score_sums[place] / self.score_counts[place]
            for place, name in enumerate(self._measured)
            if self.score_counts[place]
        }
        if self._success_is_accuracy and "success" in means:
            means["accuracy"] = means["success"]
        return means

    def _get(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, f"num_{name}"))

    def _add(self, name: str, value: float) -> None:
        setattr(self, f"num_{name}", self._get(name) + value)

    def _count(self, name: str, tools: Sequence[str]) -> None:
        counts = Counter(tools or [_NONE])
        row = [float(counts[outcome]) for outcome in self._outcomes]
        state = cast(Tensor, getattr(self, name))
        setattr(self, name, state + torch.tensor(row, dtype=torch.float64, device=state.device))


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
