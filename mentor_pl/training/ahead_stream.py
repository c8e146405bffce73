"""Rollouts of the next round while the present one is trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import torch

from mentor_pl.rollout.runner import RolloutStopped
from mentor_pl.training.stream import RolloutStream, Round


class AheadRolloutStream(RolloutStream):
    """A `RolloutStream` that has the next round sampled in a thread, by an engine that holds weights of its own.

    A round is sampled with the weights that the round before it began with: the engine takes them over between two rollouts, in the
    trainer's thread, since that is a matter of all ranks. The first round of an epoch, and the first one after resuming, has present
    weights; an evaluation between epochs thus finds the engine free. Prompts and seeds are those of a `RolloutStream`.
    """

    rounds_ahead = 1

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollout")
        self._ahead: Future[Round] | None = None
        self._round_ahead = -1
        self._abandoned = Event()

    def draw(self, indices: Sequence[int]) -> Round:
        """See `TrainingStream.draw`."""
        if self._round_ahead != self.rounds_done:
            self._abandon()
        fresh = self._ahead is None
        sync_s = 0.0
        if fresh:
            sync_s = self._sync()
            self._begin(self.rounds_done)
        began = time.perf_counter()
        drawn = self.with_staleness(self._finish())
        wait_s = time.perf_counter() - began
        if self._another_follows():
            if not fresh:  # else nothing has changed since
                sync_s = self._sync()
            self._begin(self.rounds_done + 1)
        return replace(drawn, metrics=drawn.metrics | {"time/sync_s": sync_s, "time/rollout_wait_s": wait_s})

    def should_stop(self) -> bool:
        """Tell whether this process was asked to end, or nobody wants this rollout any more."""
        return super().should_stop() or self._abandoned.is_set()

    def close(self) -> None:
        """Give up a rollout under way. The stream cannot be used afterwards."""
        self._abandon()
        self._thread.shutdown()

    def _sync(self) -> float:
        began = time.perf_counter()
        with self.module.rollout_engine():
            return time.perf_counter() - began

    def _begin(self, round_index: int) -> None:
        self._ahead = self._thread.submit(self._sample, self.share_of_round(round_index), round_index)
        self._round_ahead = round_index
        self.module.rollout_ahead = self._ahead

    @torch.no_grad()
    def _sample(self, indices: Sequence[int], round_index: int) -> Round:
        """Run in the thread: no collectives here, and nothing that the trainer changes."""
        return self.score_groups(*self.roll_out(self.module.engine, indices, round_index))

    def _finish(self) -> Round:
        assert self._ahead is not None
        try:
            drawn = self._ahead.result()
        except RolloutStopped:
            drawn = None  # the other ranks hear of it below
        self._ahead = self.module.rollout_ahead = None
        self.module.stop_if_asked()
        assert drawn is not None
        return drawn

    def _another_follows(self) -> bool:
        """Tell whether this run will want the next round before anything else needs the engine."""
        if (self.rounds_done + 1) % self.rounds_per_epoch == 0:
            return False
        last = self.trainer.max_steps
        return last < 0 or self.trainer.global_step + self.plan.updates_per_round < last

    def _abandon(self) -> None:
        if self._ahead is None:
            return
        self._abandoned.set()
        self._ahead.exception()  # waits for its end
        self._abandoned.clear()
        self._ahead = self.module.rollout_ahead = None
