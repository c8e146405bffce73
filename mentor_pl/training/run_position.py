"""Where a run stands: what a checkpoint keeps of it, and how Lightning's loops go on from there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPosition:
    """Where a run stands after its last whole optimiser step.

    Lightning's own counters depend on the moment of the save, and do not tell whether an epoch's
    end was reached; so this is kept beside them, and they are made from it.

    Attributes:
        step: Optimiser steps made.
        epoch: Whole epochs made.
        steps_in_epoch: Optimiser steps made in the present epoch.
        validated: Whether the weights of this step were evaluated.
        validating: Whether an evaluation within the epoch was begun, and has not ended.
        stopped_early: Whether a callback ended the run before its length was reached.
    """

    step: int = 0
    epoch: int = 0
    steps_in_epoch: int = 0
    validated: bool = False
    validating: bool = False
    stopped_early: bool = False

    def after_step(self) -> RunPosition:
        """Return the position one optimiser step later."""
        return RunPosition(step=self.step + 1, epoch=self.epoch, steps_in_epoch=self.steps_in_epoch + 1)

    def within_validation(self) -> RunPosition:
        """Return the position while the weights are evaluated."""
        return dataclasses.replace(self, validating=True)

    def after_validation(self) -> RunPosition:
        """Return the position once the weights are evaluated."""
        return dataclasses.replace(self, validated=True, validating=False)

    def after_epoch(self) -> RunPosition:
        """Return the position at the start of the next epoch."""
        return dataclasses.replace(self, epoch=self.epoch + 1, steps_in_epoch=0)

    def with_early_stop(self, trainer: Trainer) -> RunPosition:
        """Return the position with a note whether a callback has ended the run, such as Lightning's `EarlyStopping`."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        may_stop = self.epoch >= (trainer.min_epochs or 0) and self.step >= (trainer.min_steps or 0)
        by_length = self.has_reached(trainer) or any(_is_over(callback) for callback in callbacks)
        early = trainer.should_stop and may_stop and not by_length
        return dataclasses.replace(self, stopped_early=self.stopped_early or early)

    def is_at_end(self, trainer: Trainer) -> bool:
        """Tell whether nothing is left to train."""
        return self.stopped_early or self.has_reached(trainer)

    def has_reached(self, trainer: Trainer) -> bool:
        """Tell whether the run's length in steps or epochs is reached."""
        by_steps = trainer.max_steps != -1 and self.step >= trainer.max_steps
        epochs = trainer.max_epochs
        return by_steps or (epochs is not None and epochs != -1 and self.epoch >= epochs)


def loops_at(position: RunPosition, *, accumulate_grad_batches: int) -> dict[str, Any]:
    """Return the state of Lightning's fit loop at a position, as its checkpoints hold it."""
    begun = position.epoch + (position.steps_in_epoch > 0)
    epochs = {"ready": begun, "started": begun, "processed": position.epoch, "completed": position.epoch}
    steps = _all(position.step, "ready", "completed")
    zeroed = _all(position.step, "ready", "started", "completed")
    total = position.step * accumulate_grad_batches
    current = position.steps_in_epoch * accumulate_grad_batches
    return {
        "epoch_progress": {"total": dict(epochs), "current": dict(epochs)},
        "epoch_loop.batch_progress": {"total": _batches(total), "current": _batches(current), "is_last_batch": False},
        "epoch_loop.val_loop.batch_progress": {"total": _batches(0), "current": _batches(0), "is_last_batch": False},
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {
                "step": {"total": steps, "current": dict(steps)},
                "zero_grad": {"total": zeroed, "current": dict(zeroed)},
            }
        },
        "epoch_loop.state_dict": {"_batches_that_stepped": position.step},
    }


def go_on(trainer: Trainer, position: RunPosition) -> RunPosition:
    """Set the counters of Lightning's loops, once these are ready to run, and return the position.

    An epoch's end that was begun is made up for: its validation, where one is due, and its hooks.
    """
    fit_loop, epoch_loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    batches = position.steps_in_epoch * trainer.accumulate_grad_batches
    due = is_validation_due(trainer, position)
    if batches >= trainer.num_training_batches and (position.validated or not due):
        position, batches = position.after_epoch(), 0
    fit_loop.load_state_dict({**loops_at(position, accumulate_grad_batches=trainer.accumulate_grad_batches)})
    progress = epoch_loop.batch_progress
    if not batches:
        fit_loop.reset_restart_stage()
        epoch_loop.restarting = False
        return position
    progress.is_last_batch = batches >= trainer.num_training_batches
    if not due:
        return position
    if position.validated:
        trainer.val_check_batch = float("inf")  # until the next step; it would be evaluated once more
        return position
    begun = {**_batches(0), "ready": 1, "started": 1}  # an evaluation that was begun is begun again
    val_loop = epoch_loop.val_loop
    val_loop.batch_progress.load_state_dict({"total": begun, "current": _batches(0), "is_last_batch": False})
    val_loop.update_restart_stage()  # Lightning has looked at it before, when no evaluation was begun
    epoch_loop.on_load_checkpoint({"_batches_that_stepped": position.step - 1})  # its log belongs to the last step
    return position


def is_validation_due(trainer: Trainer, position: RunPosition) -> bool:
    """Tell whether Lightning evaluates after the step of a position; intervals in seconds are not looked at."""
    every = trainer.check_val_every_n_epoch
    if not position.steps_in_epoch or not trainer.enable_validation:
        return False
    if every is not None and (position.epoch + 1) % every:
        return False
    batches = (position.step if every is None else position.steps_in_epoch) * trainer.accumulate_grad_batches
    if trainer.val_check_batch is None or trainer.val_check_batch == float("inf"):
        return False
    return batches % int(trainer.val_check_batch) == 0


def _is_over(callback: Callback) -> bool:
    left_s = callback.time_remaining() if isinstance(callback, Timer) else None
    return left_s is not None and left_s <= 0


def _batches(count: int) -> dict[str, int]:
    return _all(count, "ready", "started", "processed", "completed")


def _all(count: int, *names: str) -> dict[str, int]:
    return dict.fromkeys(names, count)
