"""The LightningModule: a student and the loss that steers it."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from mentor_pl.engines.base import RolloutEngine
from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.losses import Loss, LossOutput, TruncatedImportanceSampling
from mentor_pl.plugins import keeping_contract
from mentor_pl.students.base import StudentLoader, loaded_model, loaded_tokenizer
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.evaluation_stream import EvaluationBatch
from mentor_pl.training.fsdp2 import check_strategy, shard
from mentor_pl.training.micro_batch_loss import micro_batch_loss
from mentor_pl.training.optimizer_check import check_optimizer
from mentor_pl.training.policy import Policy, ReferencePolicy
from mentor_pl.training.random_states import RandomState, gather_random_states, restore_random_state
from mentor_pl.training.resume import ResumableRun
from mentor_pl.training.rollout_controller import RolloutController, StopRequest
from mentor_pl.training.samples import Source
from mentor_pl.training.sharded_checkpoints import trained_names
from mentor_pl.training.step_metrics import StepMetrics, StepTotals

_SHOWN = {"reward": "reward", "tool_calls": "calls", "loss": "loss"}
"""What the progress bar shows beside the terms of the reward program, and under which name."""


class MentorModule(LightningModule):
    """A student, trained by a loss. Optimisation is Lightning's automatic one.

    Args:
        student: Builds the student and its tokenizer.
        engine: Samples the student's completions.
        loss: Turns log-probabilities into a loss.
        optimizer: The optimiser, without its parameters.
        lr_scheduler: A learning-rate scheduler, stepped after every weight update.
        correction: Corrects for samples of another policy than the trained one:
            `TruncatedImportanceSampling`, or null for none.
        off_policy_shaping: Of the teacher's tokens in a group (`data.guidance.teacher_in_group`):
            the smaller, the more unlikely ones learn.
        packing: Whether training batches are packed, with each prompt kept once for its group:
            true, false, or null to do so where the student's attention allows it. Padding gives the
            same gradients, slower.
        logprob_chunk_tokens: Tokens whose logits are held at once; lower it where the vocabulary is
            large and memory short.
    """

    def __init__(
        self,
        student: StudentLoader,
        engine: RolloutEngine,
        loss: Loss,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        correction: TruncatedImportanceSampling | None = None,
        off_policy_shaping: float = 0.1,
        packing: bool | None = None,
        logprob_chunk_tokens: int = 1024,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # a checkpoint of an adapter holds the adapter only
        self.loader = student
        self.engine = engine
        self.loss = loss
        self.correction = correction
        self.off_policy_shaping = off_policy_shaping
        self.student: nn.Module | None = None
        self.policy: Policy
        self.controller: RolloutController
        self.stop_request = StopRequest()
        self.saves_alone = False
        """Whether a checkpoint is saved by one rank, while the others may hang."""
        self.evaluation: dict[str, dict[str, float]] = {}
        """Metrics of the last evaluation, by split and name."""
        check_optimizer(optimizer, lr_scheduler)
        self._make_optimizer = optimizer
        self._make_lr_scheduler = lr_scheduler
        self._packing = packing
        self._logprob_chunk_tokens = logprob_chunk_tokens
        self._ref_policy: ReferencePolicy | None = None
        self._step_totals = StepTotals()
        self._train_began = self._train_s = 0.0
        self._metrics: dict[str, SplitMetrics] = {}
        self._terms: tuple[str, ...] = ()
        self._random_states: Sequence[RandomState] = ()

    # The student ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's tokenizer; loaded without its model."""
        return loaded_tokenizer(self.loader)

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
        student = loaded_model(self.loader)
        if self.loss.needs_ref_policy and self.trainer.state.fn == "fit":
            self._ref_policy = ReferencePolicy(student)
            if self._ref_policy.copy is not None:
                self._ref_policy.copy = shard(self._ref_policy.copy, strategy)
        self.student = shard(student, strategy)
        self.policy = Policy(
            self.student,
            packing=self._packing,
            chunk_tokens=self._logprob_chunk_tokens,
            entropy_gradient=self.loss.needs_entropy_gradient,
        )
        self.controller = RolloutController(
            trainer=self.trainer,
            policy=self.policy,
            engine=self.engine,
            stop=self.stop_request,
            pad_token_id=self.pad_token_id,
            needs_all_tokens=self.loss.needs_all_tokens,
            corrects_sampler=self.correction is not None,
        )

    # Training -------------------------------------------------------------------------------------------------

    def training_step(self, batch: PolicyBatch, batch_idx: int) -> Tensor:
        """Return the micro-batch's share of the step's loss."""
        # The reference first: its forward pass needs no room beside the activations that the gradient waits for.
        reference = None if self._ref_policy is None else self.policy.score_ref_policy(batch, self._ref_policy)
        logprobs, entropies = self.policy.score(batch)
        output = micro_batch_loss(
            self.loss,
            batch,
            logprobs=logprobs,
            entropies=entropies,
            ref_policy_logprobs=reference,
            correction=self.correction,
            off_policy_shaping=self.off_policy_shaping,
        )
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
        if batch.rollout_sums:
            self._terms = tuple(name.removeprefix("score/") for name in batch.rollout_sums if name.startswith("score/"))
        self._step_totals.add(
            StepMetrics(
                num_tokens=int((batch.source == Source.STUDENT).sum()),
                token_sums=output.means,
                rank_means=batch.rollout_metrics,
                sums_and_counts=batch.rollout_sums,
                sums={"loss": output.loss.detach()},
                maxima=output.maxima,
            )
        )
        if not last:
            return
        values = self._step_totals.reduce(self.trainer.strategy, world_size=self.trainer.world_size)
        if self.correction is not None:  # before the update, so that a bad step changes nothing
            values["correction/effective_sample_size"] = self.correction.effective_sample_size(values)
        with keeping_contract(self.loss, ".end_step"):
            self.loss.end_step(values)
        for name, value in values.items():
            self.log(f"train/{name}", value, batch_size=1)
        for name, label in self._shown().items():
            if name in values:
                self.log(label, values[name], prog_bar=True, logger=False, batch_size=1)

    def _shown(self) -> dict[str, str]:
        """Return the names of the metrics that the progress bar shows, each with its label."""
        labels = {f"score/{term}": term for term in self._terms if term not in _SHOWN.values() and "/" not in term}
        return {"reward": "reward", **labels, **_SHOWN}

    def configure_callbacks(self) -> list[Callback]:
        """Let every Trainer keep the run's position in its checkpoints."""
        return [ResumableRun()]

    @functools.cached_property
    def optimizer_name(self) -> str:
        """Class of the optimiser; it is made for one small weight, without the student.

        Raises:
            ConfigError: It refuses its settings.
        """
        try:
            return type(self._make_optimizer([nn.Parameter(torch.zeros(2, 2))])).__name__  # type: ignore[arg-type]
        except (ValueError, TypeError) as refusal:
            raise ConfigError(f"model.optimizer: {refusal}; see its arguments") from None

    def setup(self, stage: str) -> None:
        """Have the optimiser's settings looked at before the student is loaded."""
        if stage == "fit":
            _ = self.optimizer_name

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
            self._metrics[batch.split] = batch.stream.new_metrics().to(self.device)
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
        self.evaluation = {}
        for split, metrics in self._metrics.items():
            values = metrics.compute()
            self.evaluation[split] = {name: float(value) for name, value in values.items()}
            for name, value in values.items():
                self.log(f"{stage}/{split}/{name}", value, rank_zero_only=False)

    # Checkpoints ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what is trained, and every rank's random state. Called on every rank."""
        trained = trained_names(self)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        checkpoint["rng_states"] = gather_random_states(alone=self.saves_alone)
        with keeping_contract(self.loss, ".state_dict"):
            checkpoint["loss_state"] = self.loss.state_dict()

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
        self._random_states = checkpoint.get("rng_states", ())
        with keeping_contract(self.loss, ".load_state_dict"):
            self.loss.load_state_dict(checkpoint.get("loss_state", {}))

    def on_train_start(self) -> None:
        """Restore this rank's random state, after everything that draws numbers at start-up."""
        restore_random_state(self._random_states, rank=self.global_rank, world_size=self.trainer.world_size)
