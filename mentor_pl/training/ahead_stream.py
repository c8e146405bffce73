"""Rollouts of the next round while the present one is trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning.pytorch import Trainer

from mentor_pl.engines.base import SamplingParams
from mentor_pl.rollout.runner import Prompt, RolloutRunner
from mentor_pl.training.comparison import GroupComparison
from mentor_pl.training.prompt_order import PromptOrder
from mentor_pl.training.rollout_controller import RolloutController, SyncedEngine
from mentor_pl.training.rounds import Round, StreamPlan
from mentor_pl.training.stream import RolloutStream


class AheadRolloutStream(RolloutStream):
    """A `RolloutStream` that has the next round sampled in a thread, by an engine that holds weights of its own.

    A round is sampled with the weights that the round before it began with: the engine takes them
    over between two rollouts, in the trainer's thread, since that is a matter of all ranks. The
    first round of an epoch, and the first one after resuming, has present weights; an evaluation
    between epochs thus finds the engine free. Prompts and seeds are those of a `RolloutStream`.

    Args:
        trainer: Whose ranks share the work.
        controller: Gives the engine and runs the rollout ahead.
        runner: Lets the engine's weights try prompts.
        prompts: What there is to try.
        order: In which it is tried.
        comparison: Scores groups and compares their trajectories.
        sampling: How tokens are drawn.
        plan: Rounds and steps.
    """

    rounds_ahead = 1

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
        super().__init__(
            trainer=trainer,
            controller=controller,
            runner=runner,
            prompts=prompts,
            order=order,
            comparison=comparison,
            sampling=sampling,
            plan=plan,
        )
        self._round_ahead = -1
        self._synced: SyncedEngine

    def draw(self, indices: Sequence[int]) -> Round:
        """See `TrainingStream.draw`."""
        ahead = self.controller.ahead
        if self._round_ahead != self.rounds_done:
            ahead.abandon()
        fresh = not ahead.begun
        sync_s = 0.0
        if fresh:
            sync_s = self._sync()
            self._begin(self.rounds_done)
        began = time.perf_counter()
        drawn = self.with_staleness(ahead.finish(), self._synced)
        wait_s = time.perf_counter() - began
        drawn = self.noted(drawn)  # the next round may depend on it
        if self._another_follows():
            if not fresh:  # else nothing has changed since
                sync_s = self._sync()
            self._begin(self.rounds_done + 1)
        return replace(drawn, metrics=drawn.metrics | {"time/sync_s": sync_s, "time/rollout_wait_s": wait_s})

    def close(self) -> None:
        """Give up a rollout under way. The stream cannot be used afterwards."""
        self.controller.ahead.close()

    def _sync(self) -> float:
        with self.controller.synced_engine() as self._synced:
            return self._synced.sync_s

    def _begin(self, round_index: int) -> None:
        self.controller.ahead.begin(lambda: self._sample(round_index))
        self._round_ahead = round_index

    @torch.no_grad()
    def _sample(self, round_index: int) -> Round:
        """Run in the thread: no collectives here, and nothing that the trainer changes."""
        should_stop, is_abandoned = self._synced.should_stop, self.controller.ahead.is_abandoned
        wanted = replace(self._synced, should_stop=lambda: should_stop() or is_abandoned())
        return self.score_groups(*self.roll_out(wanted, round_index), round_index)

    def _another_follows(self) -> bool:
        """Tell whether this run will want the next round before anything else needs the engine."""
        if (self.rounds_done + 1) % self.rounds_per_epoch == 0:
            return False
        last = self.trainer.max_steps
        return last < 0 or self.trainer.global_step + self.plan.updates < last
