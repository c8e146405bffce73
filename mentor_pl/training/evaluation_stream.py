"""Attempts at evaluation problems, as batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer

from mentor_pl.environments import Split
from mentor_pl.evaluation.sampling import EvaluationSampling
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.training.rollout_controller import RolloutController
from mentor_pl.trajectory import TrajectoryGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationBatch:
    """Attempts at some problems of one split.

    Attributes:
        stream: Where they come from; it knows what the split is measured by.
        groups: May be empty where a rank has run out of problems.
    """

    stream: EvaluationStream
    groups: tuple[TrajectoryGroup, ...]

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.stream.split

    def to(self, device: torch.device | str, non_blocking: bool = False) -> EvaluationBatch:
        """Nothing here lives on a device; Lightning asks all the same."""
        return self


class EvaluationStream:
    """One split, tried by the present weights. Fit, validate, test and predict all evaluate through it.

    Args:
        trainer: Whose ranks share the problems.
        controller: Gives the engine with the present weights.
        runner: Lets the engine's weights try prompts.
        split: Its tools, its reward and its metrics.
        prompts: Its problems.
        sampling: How tokens are drawn, how often each problem is tried, and how many attempts are
            made at once.
        seed: Used where sampling is not greedy. A sample's random numbers depend on it, on the
            problem and on the sample's number: not on the ranks or the batch.
    """

    def __init__(
        self,
        *,
        trainer: Trainer,
        controller: RolloutController,
        runner: RolloutRunner,
        split: Split,
        prompts: Sequence[Prompt],
        sampling: EvaluationSampling,
        seed: int,
    ) -> None:
        self.trainer = trainer
        self.controller = controller
        self.runner = runner
        self.split = split.name
        self.toolbox = split.world.toolbox
        self.reward = split.reward
        self.metrics = split.metrics
        self.prompts = prompts
        self.sampling = sampling
        self.batch_size = max(1, sampling.batch_size // sampling.samples)
        self.seed = seed
        own = (tool.name for prompt in prompts for tool in prompt[0].tools)
        self.tool_names = tuple(dict.fromkeys((*runner.tool_names, *own)))

    def new_metrics(self) -> SplitMetrics:
        """Return what measures this split, nothing counted yet."""
        return SplitMetrics(self.tool_names, self.reward, samples=self.sampling.samples, own=self.metrics)

    def teacher_metrics(self) -> SplitMetrics:
        """Return what measures the teacher, who solved each problem once; one rank has all of its solutions."""
        return SplitMetrics(self.tool_names, self.reward, own=self.metrics, sync=False)

    def __len__(self) -> int:
        """Batches, the same number on every rank: under sharded weights all must take part in each."""
        return -(-len(self.prompts) // (self.batch_size * self.trainer.world_size))

    def __iter__(self) -> Iterator[EvaluationBatch]:
        """Try the problems, batch by batch."""
        mine = self.prompts[self.trainer.global_rank :: self.trainer.world_size]
        for batch in range(len(self)):
            prompts = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            with self.controller.synced_engine() as synced:
                groups = self.runner.run(
                    synced.engine,
                    prompts,
                    sampling=self.sampling,
                    group_size=self.sampling.samples,
                    seed=self.seed,
                    should_stop=synced.should_stop,
                )
            yield EvaluationBatch(stream=self, groups=tuple(groups))
