"""Keeps a bad batch from destroying the weights."""

from __future__ import annotations

import logging

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from mentor_pl.errors import MentorError

log = logging.getLogger(__name__)


class NonFiniteGuard(Callback):
    """Skips a weight update whose gradient is not finite on any rank, and gives up after several in a row.

    Args:
        max_in_a_row: Skipped updates in a row after which training stops with an error; 0 turns the
            guard off.
    """

    def __init__(self, max_in_a_row: int = 5) -> None:
        self.max_in_a_row = max_in_a_row
        self._in_a_row = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Drop the gradients where one of them is not finite: the optimiser then leaves every weight alone."""
        if not self.max_in_a_row:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # Each rank looks at its own shards: on a sharded tensor all() would be a collective, which ranks leave at different gradients.
        shards = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
        finite = all(bool(torch.isfinite(g).all()) for g in shards)
        bad_ranks = trainer.strategy.reduce(torch.tensor(float(not finite), device=pl_module.device), reduce_op="sum")
        if not float(bad_ranks):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        log.warning(
            "step %d: the gradient is not finite; the update is skipped (%d in a row)",
            trainer.global_step,
            self._in_a_row,
        )
        if self._in_a_row >= self.max_in_a_row:
            raise MentorError(
                f"{self._in_a_row} weight updates in a row had a gradient that is not finite, the last at step {trainer.global_step}; "
                "lower model.optimizer's lr, set trainer.gradient_clip_val, or train in 32-true precision"
            )
        optimizer.zero_grad(set_to_none=True)
