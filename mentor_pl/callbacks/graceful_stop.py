"""Ends a run soon after it was asked to, and loses nothing."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mentor_pl.training.module import MentorModule

log = logging.getLogger(__name__)


class GracefulStop(Callback):
    """After SIGTERM a rollout under way is given up, training steps on a finished rollout are completed; then `last.ckpt` is saved.

    Takes the place of Lightning's handlers, which wait for the batch (for us: for the whole rollout) and talk to other ranks from
    within the signal handler, wherever these may be. Ours only leaves a note, which all ranks look at together. Under SLURM the same
    holds for the signal before a time limit, upon which Lightning saves and requeues the job.
    """

    def __init__(self) -> None:
        self._requeue: Callable[..., Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which it has installed by now and removes at the end."""
        if not isinstance(pl_module, MentorModule):
            return

        def leave_note(signum: int, frame: Any) -> None:
            launcher = trainer.strategy.launcher
            if not pl_module.stop_signal and launcher is not None:
                launcher.kill(signum)  # the ranks that this process has started; they get no signal of their own
            pl_module.stop_signal = signum

        signal.signal(signal.SIGTERM, leave_note)
        if SLURMEnvironment.detect() and callable(theirs := signal.getsignal(signal.SIGUSR1)):
            self._requeue = theirs
            signal.signal(signal.SIGUSR1, leave_note)

    on_sanity_check_start = on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where training has stopped; all ranks are here."""
        if not isinstance(exception, SIGTERMException) or not isinstance(pl_module, MentorModule):
            return
        if trainer.state.fn != "fit":
            return
        if pl_module.stop_signal == signal.SIGUSR1 and self._requeue is not None:
            self._requeue(signal.SIGUSR1, None)
            return
        checkpoints = trainer.checkpoint_callback
        folder = checkpoints.dirpath if isinstance(checkpoints, ModelCheckpoint) else None
        path = Path(folder or trainer.default_root_dir) / "last.ckpt"
        trainer.save_checkpoint(path)
        log.warning("stopped at step %d; `--ckpt_path %s` goes on from there", trainer.global_step, path)
