"""What lies between a loader and the student that is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mentor_pl.engines.base import RolloutEngine
from mentor_pl.errors import EngineError
from mentor_pl.plugins import keeping_contract
from mentor_pl.rollout.runner import RolloutRunner, RolloutStopped
from mentor_pl.training.batching import (
    PolicyBatch,
    packed_batch,
    padded_batch,
    split_evenly,
    step_statistics,
    step_sums,
)
from mentor_pl.training.distiller import TokenScoring
from mentor_pl.training.fsdp2 import gathered
from mentor_pl.training.policy import Policy
from mentor_pl.training.rollout_ahead import RolloutAhead
from mentor_pl.training.samples import Sample


class StopRequest:
    """A note that this process was asked to end. A signal handler may leave it at any time."""

    def __init__(self) -> None:
        self.signal = 0
        """The signal that asked; 0 while none did."""

    def leave(self, signal: int) -> None:
        """Note that a signal asked this process to end."""
        self.signal = signal

    def __call__(self) -> bool:
        """Tell whether this process was asked to end."""
        return self.signal != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedEngine:
    """An engine that holds the present weights.

    Attributes:
        engine: Samples completions.
        should_stop: Tells whether this process was asked to end, so that a rollout is given up.
        sync_s: Seconds that the engine took to receive the weights.
    """

    engine: RolloutEngine
    should_stop: Callable[[], bool]
    sync_s: float


class RolloutController:
    """Connects the loaders, which sample, with the student, which is trained.

    The module makes it; the data module hands it to its streams. Except for `ahead`, all ranks use
    every member together.

    Args:
        trainer: Runs the training.
        policy: The student.
        engine: Samples the student's completions.
        stop: Notes that this process was asked to end.
        pad_token_id: Fills padded positions.
        needs_all_tokens: Whether the loss needs tokens of advantage 0 too.
        corrects_sampler: Whether the loss compares the sampler with the policy of the round's
            start.

    Attributes:
        ahead: The rollout that goes on while training does, if any.
        before_round: Called before each round, when every step of the last one is made, logged and
            evaluated: the moment for a checkpoint.
    """

    def __init__(
        self,
        *,
        trainer: Trainer,
        policy: Policy,
        engine: RolloutEngine,
        stop: StopRequest,
        pad_token_id: int,
        needs_all_tokens: bool,
        corrects_sampler: bool,
    ) -> None:
        self.ahead = RolloutAhead(self.stop_if_asked)
        self.before_round: list[Callable[[], None]] = []
        self._trainer = trainer
        self._policy = policy
        self._engine = engine
        self._stop = stop
        self._pad_token_id = pad_token_id
        self._needs_all_tokens = needs_all_tokens
        self._corrects_sampler = corrects_sampler

    def begin_round(self) -> None:
        """Free what a rollout does not need, or end the run.

        Raises:
            SIGTERMException: See `stop_if_asked`.
        """
        self.stop_if_asked()
        for call in self.before_round:
            call()
        # The last step's gradients would take their memory through the rollout.
        self._trainer.lightning_module.zero_grad()

    @contextmanager
    def synced_engine(self) -> Iterator[SyncedEngine]:
        """Give the engine, holding the present weights.

        An engine with weights of its own may go on sampling afterwards, by `ahead`.

        Raises:
            SIGTERMException: See `stop_if_asked`.
        """
        began = time.perf_counter()
        self.ahead.wait()
        student = self._policy.model
        training = student.training
        student.eval()
        try:
            with torch.no_grad(), gathered(student) as whole, self._trainer.precision_plugin.forward_context():
                with keeping_contract(self._engine, ".sync", EngineError):
                    self._engine.sync(whole, self._trainer.global_step)
                sync_s = time.perf_counter() - began
                yield SyncedEngine(engine=self._engine, should_stop=self._stop, sync_s=sync_s)
        except RolloutStopped:
            pass  # the other ranks hear of it below
        finally:
            student.train(training)
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """End the run where any rank was asked to.

        Raises:
            SIGTERMException: On every rank, with the exit status of a death by that signal.
        """
        asked = torch.tensor(self._stop.signal, device=self._trainer.strategy.root_device)
        signal = int(self._trainer.strategy.reduce(asked, reduce_op="max"))
        if signal:
            self._stop.leave(signal)
            raise SIGTERMException(128 + signal)

    def micro_batches(
        self, samples: Sequence[Sample], *, temperature: float, updates_per_round: int
    ) -> list[PolicyBatch]:
        """Lay one optimiser step's samples of this rank out as `accumulate_grad_batches` batches.

        Args:
            samples: Those of one prompt next to each other.
            temperature: At which their tokens were sampled.
            updates_per_round: Where it is above 1 and the sampler is corrected for, each batch
                notes its log-probabilities under the present weights, before other steps move them.

        Raises:
            EngineError: A sampled token has no log-probability.
        """
        self._check_logprobs(samples)
        whole_step = step_statistics(*self.sums_over_ranks(step_sums(samples)))
        if not self._needs_all_tokens:
            samples = [sample for sample in samples if bool(sample.advantages.any())]
        make = packed_batch if self._policy.packing else padded_batch
        batches = [
            replace(
                make(part, pad_token_id=self._pad_token_id, num_loss_tokens=whole_step["num_loss_tokens"]),
                temperature=temperature,
                **whole_step,
            )
            for part in split_evenly(samples, self._trainer.accumulate_grad_batches)
        ]
        if self._corrects_sampler and updates_per_round > 1:
            return [self._with_old_logprobs(batch) for batch in batches]
        return batches

    def token_scoring(self, runner: RolloutRunner, *, temperature: float, steps_per_round: int) -> TokenScoring:
        """Return what a teacher that judges tokens may use of this run.

        Args:
            runner: Renders prompts.
            temperature: Of the rollout.
            steps_per_round: Optimiser steps of a round, so that no forward pass is larger than in
                training.
        """
        return TokenScoring(
            self._policy,
            runner,
            temperature=temperature,
            device=self._trainer.strategy.root_device,
            parts=steps_per_round * self._trainer.accumulate_grad_batches,
            pad_token_id=self._pad_token_id,
            forward_context=self._trainer.precision_plugin.forward_context,
        )

    def _check_logprobs(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            bad = ~torch.isfinite(sample.sampling_logprobs) | (sample.sampling_logprobs > 1e-3)
            if bool(bad.any()):
                raise EngineError(
                    f"{type(self._engine).__name__} gave a sampled token the log-probability {float(sample.sampling_logprobs[bad][0])}; "
                    "it must be finite and at most 0; see that the engine computes in a precision that holds its logits"
                )

    def _with_old_logprobs(self, batch: PolicyBatch) -> PolicyBatch:
        with self._trainer.precision_plugin.forward_context():
            logprobs = self._policy.score_no_grad(batch.to(self._trainer.strategy.root_device))
        return replace(batch, old_logprobs=logprobs)

    def sums_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Add up each of several values over all ranks."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self._trainer.strategy.root_device)
        return self._trainer.strategy.reduce(tensor, reduce_op="sum").tolist()
