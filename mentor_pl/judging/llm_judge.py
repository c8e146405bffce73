"""A language model as the judge of what no rule can measure."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from mentor_pl.errors import ConfigError, RewardError
from mentor_pl.judging.bench import Bench
from mentor_pl.judging.rubric import Rubric
from mentor_pl.reference import Reference
from mentor_pl.references.budget import Budget
from mentor_pl.references.openai_teacher import OpenAITeacher
from mentor_pl.references.teacher import ChatTeacher
from mentor_pl.rewards.base import NoScore, RewardComponent
from mentor_pl.trajectory import Trajectory, TrajectoryGroup

__all__ = ["LLMJudge", "OpenAITeacher"]  # jsonargparse finds by its bare name what is imported


class LLMJudge(RewardComponent):
    """Points for named criteria, given by a language model; the weighted mean of the criteria, in [0, 1].

    Every reply is on disk before it is used, and what was asked before, in this run or an earlier
    one, is not asked again: so the same trajectory always gets the same score. What goes wrong at
    the endpoint is tried again; where that fails, the trajectory has no score and is not trained
    on. It is never a 0.

    The judge sees the task, the right answers and the student's work: its words without reasoning,
    its calls and whether they failed. Each line of the work is marked as the student's, so that
    nothing in it can pass for an instruction.
    """

    def __init__(
        self,
        rubric: Rubric,
        model: ChatTeacher,
        cache: Path = Path("judge.jsonl"),
        budget: Budget | None = None,
        concurrency: int = 8,
        max_asks: int = 3,
        max_unanswered_in_a_row: int = 20,
    ) -> None:
        """Say who judges and by what.

        Args:
            rubric: The criteria.
            model: The judge: `OpenAITeacher` for any endpoint that speaks OpenAI's chat
                completions, or `mentor_pl.judging.local_model.LocalJudgeModel` for a model of your
                own.
            cache: Journal of all replies. Remove it to have everything judged anew.
            budget: What may be spent in all, earlier runs with this journal included; no limit
                unless given.
            concurrency: Questions under way at once.
            max_asks: How often one question is put where a reply holds no verdict.
            max_unanswered_in_a_row: Questions in a row without an answer, in spite of every retry,
                after which the run ends.

        Raises:
            ConfigError: A number is less than 1.
        """
        for name, value in (
            ("concurrency", concurrency),
            ("max_asks", max_asks),
            ("max_unanswered_in_a_row", max_unanswered_in_a_row),
        ):
            if value < 1:
                raise ConfigError(f"LLMJudge.{name} is {value}; it must be at least 1")
        self.rubric, self.model, self.cache = rubric, model, cache
        self.budget = budget or Budget()
        self.concurrency, self.max_asks, self.max_unanswered_in_a_row = concurrency, max_asks, max_unanswered_in_a_row
        self._lock = threading.Lock()
        self._bench: Bench | None = None

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Judge one trajectory.

        Raises:
            RewardError: There is no verdict.
        """
        (verdict,) = self.score_group(TrajectoryGroup(references=tuple(references), trajectories=(trajectory,)))
        if isinstance(verdict, NoScore):
            raise RewardError(f"LLMJudge has no score for reference {references[0].reference_id!r}: {verdict.reason}")
        return verdict

    def score_group(self, group: TrajectoryGroup) -> Sequence[float | NoScore]:
        """Judge all trajectories of one prompt, side by side."""
        questions = [self.rubric.messages(trajectory, group.references) for trajectory in group.trajectories]
        return self._open().verdicts(questions, self.rubric.score)

    def _open(self) -> Bench:
        with self._lock:  # opened on first use: reading a config must not lock the journal
            if self._bench is None:
                self._bench = Bench(
                    self.model,
                    self.cache,
                    self.budget,
                    concurrency=self.concurrency,
                    max_asks=self.max_asks,
                    max_unanswered_in_a_row=self.max_unanswered_in_a_row,
                )
            return self._bench
