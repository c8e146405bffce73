"""Ends a run soon after it was asked to, and loses nothing."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim import Optimizer

from mentor_pl.callbacks.checkpoints import RunCheckpoint
from mentor_pl.training.module import MentorModule

log = logging.getLogger(__name__)


class GracefulStop(Callback):
    """After SIGTERM or Ctrl-C a rollout under way is given up, training steps on a finished one are completed; then `last.ckpt` is saved.

    A second Ctrl-C stops at once and saves nothing.

    Takes the place of Lightning's handlers, which wait for the batch (for us: for the whole rollout) and talk to other ranks from
    within the signal handler, wherever these may be. Ours only leaves a note, which all ranks look at together. Under SLURM the same
    holds for the signal before a time limit, upon which Lightning saves and requeues the job.
    """

    def __init__(self) -> None:
        self._requeue: Callable[..., Any] | None = None
        self._interrupt: Any = None
        self._step_begun = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which it has installed by now and removes at the end."""
        if not isinstance(pl_module, MentorModule) or threading.current_thread() is not threading.main_thread():
            return

        def leave_note(signum: int, frame: Any) -> None:
            if signum == signal.SIGINT:
                self._restore_interrupt()
                log.warning("stopping at the next step, with a checkpoint; Ctrl-C again stops at once")
            launcher = trainer.strategy.launcher
            if not pl_module.stop_request() and launcher is not None:
                # The ranks that this process has started. Not SIGINT: the terminal sends them their own, and a second one kills.
                launcher.kill(signal.SIGTERM)
            pl_module.stop_request.leave(signum)

        signal.signal(signal.SIGTERM, leave_note)
        if self._interrupt is None:
            self._interrupt = signal.signal(signal.SIGINT, leave_note)
        if SLURMEnvironment.detect() and callable(theirs := signal.getsignal(signal.SIGUSR1)):
            self._requeue = theirs
            signal.signal(signal.SIGUSR1, leave_note)

    on_sanity_check_start = on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note that the weights begin to change."""
        self._step_begun = trainer.global_step

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where training has stopped."""
        self._restore_interrupt()
        if not isinstance(pl_module, MentorModule) or trainer.state.fn != "fit":
            return
        asked = isinstance(exception, SIGTERMException)  # then all ranks are here
        if asked and pl_module.stop_request.signal == signal.SIGUSR1 and self._requeue is not None:
            self._requeue(signal.SIGUSR1, None)
        elif asked or self._can_save_after(exception, trainer):
            self._save(trainer, "stopped" if asked else "failed")

    def _can_save_after(self, exception: BaseException, trainer: Trainer) -> bool:
        """Tell whether this process alone can save, and has whole weights that were not saved yet."""
        within_step = self._step_begun == trainer.global_step
        alone = trainer.world_size == 1
        return isinstance(exception, Exception) and alone and trainer.global_step > 0 and not within_step

    def _save(self, trainer: Trainer, what: str) -> None:
        checkpoints = trainer.checkpoint_callback
        if isinstance(checkpoints, RunCheckpoint):
            if not checkpoints.keep_last:
                log.warning(
                    "%s at step %d; nothing is saved, since checkpoints are switched off", what, trainer.global_step
                )
                return
            path = checkpoints.save_newest(trainer)
        else:
            folder = checkpoints.dirpath if isinstance(checkpoints, ModelCheckpoint) else None
            path = Path(folder or trainer.default_root_dir) / "last.ckpt"
            trainer.save_checkpoint(path)
        log.warning("%s at step %d; `--ckpt_path %s` goes on from there", what, trainer.global_step, path)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C its old meaning back."""
        self._restore_interrupt()

    def _restore_interrupt(self) -> None:
        if self._interrupt is not None:
            signal.signal(signal.SIGINT, self._interrupt)
            self._interrupt = None
