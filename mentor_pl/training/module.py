"""The LightningModule: a student and the loss that steers it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from mentor_pl.engines.base import RolloutEngine
from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.metrics import TaskMetrics
from mentor_pl.evaluation.rollout_metrics import group_metrics
from mentor_pl.losses import Loss, LossInputs, LossOutput, TruncatedImportanceSampling
from mentor_pl.rollout.runner import RolloutStopped
from mentor_pl.students.base import StudentLoader
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.fsdp2 import check_strategy, gathered, shard
from mentor_pl.training.policy import Policy, ReferencePolicy
from mentor_pl.training.sharded_checkpoints import trained_names
from mentor_pl.training.step_totals import StepTotals

if TYPE_CHECKING:
    from mentor_pl.training.evaluation_stream import EvaluationBatch

PROGRESS_BAR = {
    "reward": "reward",
    "score/correct": "accuracy",
    "score/tool_match": "tool match",
    "tool_calls": "calls",
    "loss": "loss",
}
"""What the progress bar shows, under which name; terms that the reward program lacks are left out."""


class MentorModule(LightningModule):
    """A student, trained by a loss. Optimisation is Lightning's automatic one.

    Args:
        student: Builds the student and its tokenizer.
        engine: Samples the student's completions.
        loss: Turns log-probabilities into a loss.
        optimizer: The optimiser, without its parameters.
        lr_scheduler: A learning-rate scheduler, stepped after every weight update.
        correction: Corrects for samples of another policy than the trained one: `TruncatedImportanceSampling`, or null for none.
        packing: Whether training batches are packed, with each prompt kept once for its group: true, false, or null to do so
            where the student's attention allows it. Padding gives the same gradients, slower.
        logprob_chunk_tokens: Tokens whose logits are held at once; lower it where the vocabulary is large and memory short.
    """

    def __init__(
        self,
        student: StudentLoader,
        engine: RolloutEngine,
        loss: Loss,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        correction: TruncatedImportanceSampling | None = None,
        packing: bool | None = None,
        logprob_chunk_tokens: int = 1024,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # a checkpoint of an adapter holds the adapter only
        self.loader = student
        self.engine = engine
        self.loss = loss
        self.correction = correction
        self.student: nn.Module | None = None
        self.policy: Policy
        self.stop_signal = 0
        """The signal that asked this process to end; 0 while none did."""
        self.rollout_ahead: Future[Any] | None = None
        """The rollout that uses the engine while training goes on, if any."""
        self._make_optimizer = optimizer
        self._make_lr_scheduler = lr_scheduler
        self._packing = packing
        self._logprob_chunk_tokens = logprob_chunk_tokens
        self._ref_policy: ReferencePolicy | None = None
        self._step_totals = StepTotals()
        self._train_began = self._train_s = 0.0
        self._metrics: dict[str, TaskMetrics] = {}
        self._rng_states: list[dict[str, Tensor]] | None = None

    # The student ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's tokenizer; loaded without its model."""
        return self.loader.load_tokenizer()

    @property
    def pad_token_id(self) -> int:
        """Fills padded positions; never looked at."""
        pad: Any = self.tokenizer.pad_token_id
        return int(pad)

    def configure_model(self) -> None:
        """Load the student, once. The reference policy is taken here, before any checkpoint is restored."""
        if self.student is not None:
            return
        strategy = self.trainer.strategy
        check_strategy(strategy)
        student = self.loader.load_model()
        if self.loss.needs_ref_policy and self.trainer.state.fn == "fit":
            self._ref_policy = ReferencePolicy(student)
            if self._ref_policy.copy is not None:
                self._ref_policy.copy = shard(self._ref_policy.copy, strategy)
        self.student = shard(student, strategy)
        self.policy = Policy(self.student, packing=self._packing, chunk_tokens=self._logprob_chunk_tokens)

    @contextmanager
    def rollout_engine(self) -> Iterator[RolloutEngine]:
        """Give the engine, holding the present weights. All ranks enter and leave together."""
        wait([] if self.rollout_ahead is None else [self.rollout_ahead])
        student = self._loaded_student()
        training = student.training
        student.eval()
        try:
            with torch.no_grad(), gathered(student) as whole, self.trainer.precision_plugin.forward_context():
                self.engine.sync(whole, self.trainer.global_step)
                yield self.engine
        except RolloutStopped:
            pass  # the other ranks hear of it below
        finally:
            student.train(training)
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """End the run where any rank was asked to. All ranks call this together.

        Raises:
            SIGTERMException: On every rank, with the exit status that a shell gives to a death by that signal.
        """
        asked = torch.tensor(self.stop_signal, device=self.device)
        self.stop_signal = int(self.trainer.strategy.reduce(asked, reduce_op="max"))
        if self.stop_signal:
            raise SIGTERMException(128 + self.stop_signal)

    def _loaded_student(self) -> nn.Module:
        if self.student is None:
            raise AssertionError("the student is loaded by configure_model(), which the Trainer calls")
        return self.student

    # Training -------------------------------------------------------------------------------------------------

    def training_step(self, batch: PolicyBatch, batch_idx: int) -> Tensor:
        """Return the micro-batch's share of the step's loss."""
        # The reference first: its forward pass needs no room beside the activations that the gradient waits for.
        reference = None if self._ref_policy is None else self.policy.score_ref_policy(batch, self._ref_policy)
        logprobs, entropies = self.policy.score(batch)
        old_logprobs, correction = batch.sampling_logprobs, None
        if self.correction is not None:
            old_logprobs = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
            correction = self.correction(old_logprobs, batch.sampling_logprobs)
        output = self.loss(
            LossInputs(
                logprobs=logprobs,
                sampling_logprobs=batch.sampling_logprobs,
                old_logprobs=old_logprobs,
                weights=torch.ones_like(batch.sampling_logprobs) if correction is None else correction.weights,
                advantages=batch.advantages,
                ref_policy_logprobs=reference,
                entropies=entropies,
                num_loss_tokens=batch.num_loss_tokens,
            )
        )
        if correction is not None:
            output = dataclasses.replace(output, means=output.means | correction.means)
        self._log_step(batch, output, last=(batch_idx + 1) % self.trainer.accumulate_grad_batches == 0)
        # Lightning divides by the accumulation, DDP and FSDP by the ranks; the share is of the whole step already.
        return output.loss * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def on_train_batch_start(self, batch: PolicyBatch, batch_idx: int) -> None:
        """Start the clock of a micro-batch."""
        self._train_began = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: PolicyBatch, batch_idx: int) -> None:
        """Log how long an optimiser step took: forward and backward passes of its micro-batches, and the update."""
        self._train_s += time.perf_counter() - self._train_began
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self.log("train/time/train_s", self._train_s, batch_size=1)
            self._train_s = 0.0

    def _log_step(self, batch: PolicyBatch, output: LossOutput, *, last: bool) -> None:
        """Log an optimiser step once, the same whatever it was split into."""
        rollout: dict[str, float] = {}
        if batch.scored_groups:
            rollout = group_metrics(batch.scored_groups) | batch.rollout_metrics
        self._step_totals.add(
            {f"mean {name}": value for name, value in output.means.items()}
            | {f"rank {name}": value / self.trainer.world_size for name, value in rollout.items()}
            | {"loss": output.loss.detach(), "tokens": len(batch.target_ids)},
            output.maxima,
        )
        if not last:
            return
        sums, values = self._step_totals.reduce(self.trainer.strategy)
        tokens = max(1.0, sums.pop("tokens"))
        for name, value in sums.items():
            kind, _, plain = name.rpartition(" ")
            values[plain] = value / tokens if kind == "mean" else value
        if self.correction is not None:  # before the update, so that a bad step changes nothing
            values["correction/effective_sample_size"] = self.correction.effective_sample_size(values)
        for name, value in values.items():
            self.log(f"train/{name}", value, batch_size=1)
        for name, shown in PROGRESS_BAR.items():
            if name in values:
                self.log(shown, values[name], prog_bar=True, logger=False, batch_size=1)

    def configure_optimizers(self) -> Any:
        """Give the optimiser what is trainable."""
        optimizer = self._make_optimizer(p for p in self.parameters() if p.requires_grad)  # type: ignore[arg-type]
        if self._make_lr_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._make_lr_scheduler(optimizer), "interval": "step"},
        }

    # Evaluation: validate, test and predict are one ----------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Start counting anew."""
        self._metrics = {}

    def validation_step(self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count a batch of attempts in."""
        if batch.split not in self._metrics:
            self._metrics[batch.split] = TaskMetrics(batch.tool_names).to(self.device)
        self._metrics[batch.split].update(batch.groups)

    def on_validation_epoch_end(self) -> None:
        """Log every split's metrics, over all ranks."""
        self._log_splits("val")

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        """Log every split's metrics, over all ranks."""
        self._log_splits("test")

    def predict_step(self, batch: EvaluationBatch, batch_idx: int, dataloader_idx: int = 0) -> EvaluationBatch:
        """Return the attempts themselves."""
        return batch

    def _log_splits(self, stage: str) -> None:
        for split, metrics in self._metrics.items():
            for name, value in metrics.compute().items():
                self.log(f"{stage}/{split}/{name}", value, rank_zero_only=False)

    # Checkpoints ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what is trained, and every rank's random state. Called on every rank."""
        trained = trained_names(self)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        mine = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            mine["cuda"] = torch.cuda.get_rng_state()
        states: list[Any] = [mine]
        if dist.is_available() and dist.is_initialized():
            states = [None] * dist.get_world_size()
            dist.all_gather_object(states, mine)
        checkpoint["rng_states"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another student's weights; remember the random states until training starts.

        Raises:
            ConfigError: The checkpoint lacks weights that this student trains.
        """
        trained = trained_names(self, tied=False)
        # A sharded checkpoint keeps its weights elsewhere.
        missing = sorted(trained - set(checkpoint.get("state_dict", trained)))
        if missing:
            raise ConfigError(
                f"the checkpoint lacks {len(missing)} of the {len(trained)} weights that this student trains, for example "
                f"{missing[0]!r}; resume it with the config of the run that it came from"
            )
        self._rng_states = checkpoint.get("rng_states")

    def on_train_start(self) -> None:
        """Restore this rank's random state, after everything that draws numbers at start-up."""
        if self._rng_states and len(self._rng_states) == self.trainer.world_size:
            state = self._rng_states[self.global_rank]
            torch.set_rng_state(state["cpu"])
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"])
