"""The loaders of training: sized, stateful iterables in the trainer's process that turn references into batches."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lightning.pytorch import Trainer

from mentor_pl.engines.base import SamplingParams
from mentor_pl.errors import EngineError
from mentor_pl.evaluation.rollout_metrics import work_metrics
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.comparison import GroupComparison
from mentor_pl.training.difficulty_order import over_ranks, success_shares
from mentor_pl.training.distiller import Distiller
from mentor_pl.training.guided_rollout import GuidedRollout
from mentor_pl.training.prompt_order import PromptOrder
from mentor_pl.training.rollout_controller import RolloutController, SyncedEngine
from mentor_pl.training.round_advantages import standardized_over_round
from mentor_pl.training.rounds import Round, StreamPlan, StreamPosition
from mentor_pl.training.samples import Sample, share_beginning
from mentor_pl.trajectory import TrajectoryGroup


class TrainingStream(ABC):
    """Rounds of prompts, each served as micro-batches.

    It has a length, so that Lightning does not fetch ahead of the weight update, and a position, so
    that a resumed run goes on where it was. A round's micro-batches are the optimiser steps times
    `accumulate_grad_batches`: accumulation changes memory, not the result.
    """

    temperature = 1.0
    """At which the samples' tokens were sampled."""

    rounds_ahead = 0
    """Rounds by which the weights that sampled may be older than those that are trained."""

    def __init__(
        self, *, trainer: Trainer, controller: RolloutController, order: PromptOrder, plan: StreamPlan
    ) -> None:
        self.trainer = trainer
        self.controller = controller
        self.plan = plan
        self.num_prompts = order.num_prompts
        self._order = order
        self.rounds_done = 0
        self._steps_of_round: list[list[PolicyBatch]] = []
        self._resumed_steps: list[list[PolicyBatch]] = []
        self._round_began = 0
        self.rounds_per_epoch = max(1, order.num_prompts // plan.prompts_per_round)

    @abstractmethod
    def draw(self, indices: Sequence[int]) -> Round:
        """Turn the prompts of this rank's share of the present round into samples."""

    def with_round_advantages(self, drawn: Round) -> Round:
        """Finish advantages that depend on the whole round. All ranks call this together."""
        return drawn

    def judged(self, drawn: Round) -> Round:
        """Let a teacher judge the round's tokens. All ranks call this together."""
        return drawn

    def __len__(self) -> int:
        """Micro-batches in an epoch."""
        micro_batches = self.plan.steps * self.trainer.accumulate_grad_batches
        return self.rounds_per_epoch * self.plan.passes * micro_batches

    def __iter__(self) -> Iterator[PolicyBatch]:
        """Serve the rest of the present epoch."""
        self._settle()
        for _ in range(self.rounds_done % self.rounds_per_epoch, self.rounds_per_epoch):
            self.controller.begin_round()
            steps, self._resumed_steps = self._resumed_steps or self._drawn_steps(), []
            self._steps_of_round, self._round_began = steps, self.trainer.global_step
            for step in steps:
                yield from step
            self._settle()

    def _drawn_steps(self) -> list[list[PolicyBatch]]:
        drawn = self.judged(self.with_round_advantages(self.draw(self.share_of_round(self.rounds_done))))
        steps = list(self._steps(drawn.samples))
        steps = [list(steps[step]) for step in self._order_of_steps()]
        steps[0][0] = replace(
            steps[0][0], scored_groups=drawn.scored_groups, rollout_metrics=drawn.metrics, rollout_sums=drawn.sums
        )
        return steps

    def _settle(self) -> None:
        """Count the round as done where the student has made all its steps."""
        if self._steps_of_round and not self._steps_left():
            self.rounds_done += 1
        self._steps_of_round = []

    def _steps_left(self) -> list[list[PolicyBatch]]:
        return self._steps_of_round[self.trainer.global_step - self._round_began :]

    def close(self) -> None:  # noqa: B027 - optional to override
        """Free what the stream holds; it is not used afterwards."""

    def position(self) -> StreamPosition:
        """Return where to go on after the optimiser steps that are made."""
        left = self._steps_left()
        done = self.rounds_done + bool(self._steps_of_round and not left)
        begun = bool(left) and len(left) < len(self._steps_of_round)
        return StreamPosition(
            rounds_done=done, steps_left=left if begun else [], order=self._order.state(next_round=done + begun)
        )

    def go_to(self, position: StreamPosition) -> None:
        """Go on from this rank's position of a checkpoint."""
        self.rounds_done = position.rounds_done
        self._resumed_steps = position.steps_left
        self._order.load_state(position.order)

    def share_of_round(self, round_index: int) -> list[int]:
        """Return this rank's prompts of a round; see `PromptOrder`."""
        return self._order.round(round_index)[self.trainer.global_rank :: self.trainer.world_size]

    def _steps(self, samples: list[list[Sample]]) -> Iterator[list[PolicyBatch]]:
        """Cut a round's prompts, in order, into steps; which prompts make a step does not depend on the number of ranks."""
        rank, world = self.trainer.global_rank, self.trainer.world_size
        step_of = [(rank + i * world) * self.plan.steps // self.plan.prompts_per_round for i in range(len(samples))]
        for step in range(self.plan.steps):
            chosen = [s for its_step, group in zip(step_of, samples, strict=True) if its_step == step for s in group]
            yield self.controller.micro_batches(
                chosen, temperature=self.temperature, updates_per_round=self.plan.updates
            )

    def _order_of_steps(self) -> list[int]:
        """Order the steps of all passes over a round; the first pass has them as they are."""
        passes = [list(range(self.plan.steps)) for _ in range(self.plan.passes)]
        for epoch, steps in enumerate(passes[1:], start=1):
            random.Random(f"{self.plan.seed}/{self.rounds_done}/{epoch}").shuffle(steps)
        return [step for steps in passes for step in steps]


class RolloutStream(TrainingStream):
    """Online: the student tries the prompts, its groups are scored and compared.

    Args:
        trainer: Whose ranks share the work.
        controller: Gives the engine with the present weights.
        runner: Lets the engine's weights try prompts.
        prompts: What there is to try.
        order: In which it is tried.
        comparison: Scores groups and compares their trajectories.
        sampling: How tokens are drawn.
        plan: Rounds and steps.
    """

    def __init__(
        self,
        *,
        trainer: Trainer,
        controller: RolloutController,
        runner: RolloutRunner,
        prompts: Sequence[Prompt],
        order: PromptOrder,
        comparison: GroupComparison,
        sampling: SamplingParams,
        plan: StreamPlan,
    ) -> None:
        super().__init__(trainer=trainer, controller=controller, order=order, plan=plan)
        self.comparison = comparison
        guidance = comparison.guidance
        self._index_of = {prompt[0].reference_id: i for i, prompt in enumerate(prompts)}
        self.temperature = sampling.temperature
        self.rollout = GuidedRollout(
            runner=runner,
            prompts=prompts,
            sampling=sampling,
            group_size=plan.group_size,
            guidance=guidance,
            reward_of=comparison.reward_of,
            seed=plan.seed,
        )
        distillation = guidance.distillation
        self.distiller = distillation and Distiller(
            distillation,
            controller.token_scoring(runner, temperature=sampling.temperature, steps_per_round=plan.steps),
        )

    def draw(self, indices: Sequence[int]) -> Round:
        """See `TrainingStream.draw`."""
        with self.controller.synced_engine() as synced:
            groups, metrics = self.roll_out(synced, self.rounds_done)
        metrics["time/sync_s"] = synced.sync_s
        return self.noted(self.with_staleness(self.score_groups(groups, metrics, self.rounds_done), synced))

    def roll_out(self, synced: SyncedEngine, round_index: int) -> tuple[list[TrajectoryGroup], dict[str, float]]:
        """Let the engine's weights try a round's prompts; also return what was measured.

        Raises:
            RolloutStopped: This process was asked to end.
        """
        started = time.perf_counter()
        groups, statistics, metrics = self.rollout.run(
            synced.engine,
            range(self.trainer.global_rank, self.plan.prompts_per_round, self.trainer.world_size),
            self._order.round(round_index),
            round_index=round_index,
            seed=random.Random(f"{self.plan.seed}/{round_index}").getrandbits(62),
            should_stop=synced.should_stop,
        )
        rollout_s = time.perf_counter() - started
        return groups, {
            "time/rollout_s": rollout_s,
            **work_metrics(groups, statistics, rollout_s),
            **metrics,
        }

    def score_groups(self, groups: Sequence[TrajectoryGroup], metrics: dict[str, float], round_index: int) -> Round:
        """Score groups and compare their trajectories."""
        started = time.perf_counter()
        scored = tuple(self.comparison.reward_of(group).score_group(group) for group in groups)
        reward_s = time.perf_counter() - started
        return Round(
            samples=[self.comparison.samples(group, round_index) for group in scored],
            scored_groups=scored,
            metrics=metrics | {"time/reward_s": reward_s},
            sums=self.comparison.sums(scored),
        )

    def noted(self, drawn: Round) -> Round:
        """Let the order of prompts know what the round came to. All ranks call this together."""
        order = self._order
        if not order.is_adaptive:
            return drawn
        shares = success_shares(drawn.scored_groups, self.comparison, self._index_of)
        order.note(self.rounds_done, over_ranks(shares, self.num_prompts, self.controller.sums_over_ranks))
        return replace(drawn, metrics=drawn.metrics | order.metrics())

    def with_staleness(self, drawn: Round, synced: SyncedEngine) -> Round:
        """Measure how many weight updates the trainer is ahead of the oldest weights that sampled this.

        Raises:
            EngineError: More than the rounds ahead explain, or the samples come from the future.
        """
        trajectories = [t for group in drawn.scored_groups for t in group.group.trajectories]
        versions = {turn.completion.policy_version for t in trajectories for turn in t.turns[t.given_turns :]}
        present = self.trainer.global_step
        limit = self.rounds_ahead * self.plan.updates
        if versions and not present - limit <= min(versions) <= max(versions) <= present:
            raise EngineError(
                f"{type(synced.engine).__name__} sampled with the weights of update {min(versions)} to {max(versions)}, but those of "
                f"{present - limit} to {present} were asked for; an engine stamps a completion with the version that its sync() was given"
            )
        return replace(drawn, metrics=drawn.metrics | {"staleness": float(present - min(versions, default=present))})

    def with_round_advantages(self, drawn: Round) -> Round:
        """See `TrainingStream.with_round_advantages`."""
        if not self.comparison.advantages.standardizes_round:
            return drawn
        samples = standardized_over_round(drawn, self.comparison.environments, self.controller.sums_over_ranks)
        return replace(drawn, samples=samples)

    def judged(self, drawn: Round) -> Round:
        """See `TrainingStream.judged`."""
        return drawn if self.distiller is None else self.distiller(drawn, self.rounds_done)


class ReferenceStream(TrainingStream):
    """Offline: the teacher's own solutions, to be imitated.

    Args:
        trainer: Whose ranks share the work.
        controller: Lays the samples out as batches.
        samples: The solutions, at least one.
        order: In which they are imitated.
        plan: Rounds and steps.
    """

    def __init__(
        self,
        *,
        trainer: Trainer,
        controller: RolloutController,
        samples: Sequence[Sample],
        order: PromptOrder,
        plan: StreamPlan,
    ) -> None:
        super().__init__(trainer=trainer, controller=controller, order=order, plan=plan)
        self.samples = share_beginning(samples)

    def draw(self, indices: Sequence[int]) -> Round:
        """See `TrainingStream.draw`."""
        return Round(samples=[[self.samples[i]] for i in indices])
