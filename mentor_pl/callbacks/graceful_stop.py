"""Ends a run soon after it was asked to, and loses nothing."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim import Optimizer

from mentor_pl.callbacks.checkpoints import LAST, RunCheckpoint
from mentor_pl.callbacks.stop_watch import RankWatch, SignalWatch
from mentor_pl.errors import MentorError
from mentor_pl.training.checkpoint_io import PARTIAL
from mentor_pl.training.module import MentorModule
from mentor_pl.training.sharded_checkpoints import ShardedCheckpoints

log = logging.getLogger(__name__)

_SILENT_FOR_S = 50.0
_LONGEST_SAVE_S = 20.0
_SAVE_BEGINS_S = 1.5
"""After which nobody waits for a save that writes no file: a callback hangs in it, or the disk does."""


class GracefulStop(Callback):
    """Ends a run that is asked to end by SIGTERM, SIGHUP or Ctrl-C, with `last.ckpt`.

    A rollout under way is given up; training steps on a finished one are completed; then it is
    saved.

    Where that does not happen within `grace_s` of SIGTERM or SIGHUP, because a tool, a reward, an
    engine or another rank hangs or a step takes long, a thread saves `last.ckpt` as of the last
    whole step and ends the process. A rank that gives no sign of life for 50 s ends the run. A
    second Ctrl-C stops at once and saves nothing. A run that fails saves, too.

    Takes the place of Lightning's handlers, which wait for the batch (for us: for the whole
    rollout) and talk to other ranks from within the signal handler, wherever these may be. Ours
    only leaves a note, which all ranks look at together. Under SLURM the same holds for the signal
    before a time limit, upon which Lightning saves and requeues the job.

    Args:
        grace_s: Seconds after which a run that was asked to end is ended by a thread.
    """

    def __init__(self, grace_s: float = 3.0) -> None:
        self.grace_s = grace_s
        self._requeue: Callable[..., Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._step_begun = -1
        self._may_save = threading.Lock()
        self._ended = threading.Event()
        self._signals: SignalWatch | None = None
        self._ranks: RankWatch | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which it has installed by now and removes at the end."""
        if not isinstance(pl_module, MentorModule) or threading.current_thread() is not threading.main_thread():
            return

        def leave_note(signum: int, frame: Any) -> None:
            if signum == signal.SIGINT:
                self._restore(signal.SIGINT)
                log.warning("stopping at the next step, with a checkpoint; Ctrl-C again stops at once")
            self._pass_on(trainer, pl_module)
            pl_module.stop_request.leave(signum)

        signal.signal(signal.SIGTERM, leave_note)
        for number in (signal.SIGINT, signal.SIGHUP):
            present = signal.getsignal(number)
            if number not in self._handlers and present is not signal.SIG_IGN:  # as nohup has it
                self._handlers[number] = signal.signal(number, leave_note)
        if SLURMEnvironment.detect() and callable(theirs := signal.getsignal(signal.SIGUSR1)):
            self._requeue = theirs
            signal.signal(signal.SIGUSR1, leave_note)
        if self._signals is None:
            self._ended.clear()
            self._signals = SignalWatch(
                {signal.SIGTERM, signal.SIGHUP}, lambda signum: self._end_soon(trainer, pl_module, signum)
            )
        if self._ranks is None and trainer.world_size > 1:
            folder = Path(str(trainer.strategy.broadcast(trainer.default_root_dir))) / ".ranks"
            self._ranks = RankWatch(
                folder,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                silent_for_s=_SILENT_FOR_S,
                act=lambda rank: self._end_without(rank, trainer, pl_module),
            )

    on_sanity_check_start = on_validation_start = on_test_start = on_predict_start = on_train_start

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note that the weights begin to change; wait for ever where they are being saved."""
        with self._may_save:
            self._step_begun = trainer.global_step

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where training has stopped."""
        self._may_save.acquire()
        try:
            self._restore(signal.SIGINT)
            if not isinstance(pl_module, MentorModule) or trainer.state.fn != "fit":
                return
            asked = isinstance(exception, SIGTERMException)  # then all ranks are here
            if asked and pl_module.stop_request.signal == signal.SIGUSR1 and self._requeue is not None:
                self._requeue(signal.SIGUSR1, None)
            elif asked:
                self._save(trainer, "stopped")
            elif self._can_save_after(exception, trainer):
                self._save_failed(trainer, pl_module)
        finally:
            self._close()
            self._may_save.release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give signals their old meaning back."""
        self._close()

    def _can_save_after(self, exception: BaseException, trainer: Trainer) -> bool:
        """Tell whether this process alone can save, and has whole weights that were not saved yet."""
        within_step = self._step_begun == trainer.global_step and not isinstance(exception, MentorError)
        alone = trainer.is_global_zero and not isinstance(trainer.strategy, ShardedCheckpoints)
        return isinstance(exception, Exception) and alone and trainer.global_step > 0 and not within_step

    def _save_failed(self, trainer: Trainer, module: MentorModule) -> None:
        """Save after an error; other ranks may be anywhere, and are not waited for."""
        if trainer.world_size == 1:
            self._save(trainer, "failed")
            return
        module.saves_alone = True
        before = _saved_at(last := _last_of(trainer))
        saving = threading.Thread(target=self._save_alone, args=(trainer, "failed"), daemon=True)
        saving.start()
        deadline = time.monotonic() + _LONGEST_SAVE_S
        while saving.is_alive() and _saved_at(last) == before and time.monotonic() < deadline:
            saving.join(0.05)  # it waits for the other ranks once the file is there
        if _saved_at(last) != before:
            if saving.is_alive():  # else it has said so
                log.warning("failed at step %d; `--ckpt_path %s` goes on from there", trainer.global_step, last)

    def _save(self, trainer: Trainer, what: str) -> None:
        checkpoints = trainer.checkpoint_callback
        if isinstance(checkpoints, RunCheckpoint):
            if not checkpoints.keep_last:
                log.warning("%s at step %d; checkpoints are switched off: nothing is saved", what, trainer.global_step)
                return
            path = checkpoints.save_newest(trainer)
        else:
            path = _last_of(trainer)
            trainer.save_checkpoint(path)
        log.warning("%s at step %d; `--ckpt_path %s` goes on from there", what, trainer.global_step, path)

    # In threads -------------------------------------------------------------------------------------------------

    def _end_soon(self, trainer: Trainer, module: MentorModule, signum: int) -> None:
        self._pass_on(trainer, module)
        module.stop_request.leave(signum)
        if not self._ended.wait(self.grace_s):
            self._end_now(trainer, module, f"asked to end {self.grace_s:g} s ago", 128 + signum)

    def _end_without(self, rank: int, trainer: Trainer, module: MentorModule) -> None:
        what = f"rank {rank} has given no sign of life for {_SILENT_FOR_S:g} s"
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGKILL)  # a stopped process takes no other
        self._end_now(trainer, module, what, 1)

    def _end_now(self, trainer: Trainer, module: MentorModule, why: str, status: int) -> None:
        """Save what can be saved without the main thread and the other ranks, and end the process."""
        if not self._may_save.acquire(blocking=False):  # the main thread saves
            if trainer.world_size > 1:  # shards are gathered before anything is written, and perhaps elsewhere
                self._ended.wait(_LONGEST_SAVE_S)
            else:
                _wait_while_writing(trainer, self._ended.wait)
        elif (
            trainer.state.fn == "fit"
            and trainer.is_global_zero
            and not isinstance(trainer.strategy, ShardedCheckpoints)
        ):
            if self._step_begun == trainer.global_step:
                time.sleep(0.5)
            if self._step_begun != trainer.global_step:  # else the weights are half changed
                module.saves_alone = True
                saving = threading.Thread(target=self._save_alone, args=(trainer, why), daemon=True)
                saving.start()
                if trainer.world_size > 1:
                    saving.join(self.grace_s / 3)
                else:
                    _wait_while_writing(trainer, lambda timeout_s: saving.join(timeout_s) or not saving.is_alive())
        log.warning("%s: this process (rank %d) ends", why, trainer.global_rank)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def _save_alone(self, trainer: Trainer, why: str) -> None:
        try:
            self._save(trainer, why)
        except Exception as failure:
            if trainer.world_size == 1:  # else it met the end of another rank, behind the writing
                log.error("%s: last.ckpt was not written: %s", why, failure)

    def _pass_on(self, trainer: Trainer, module: MentorModule) -> None:
        launcher = trainer.strategy.launcher
        if not module.stop_request() and launcher is not None:
            # The ranks that this process has started. Not SIGINT: the terminal sends them their own, and a second one kills.
            launcher.kill(signal.SIGTERM)

    def _close(self) -> None:
        self._ended.set()
        for number in list(self._handlers):
            self._restore(number)
        if self._signals is not None:
            self._signals.close()
            self._signals = None
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def _restore(self, number: int) -> None:
        if number in self._handlers:
            signal.signal(number, self._handlers.pop(number))


def _last_of(trainer: Trainer) -> Path:
    checkpoints = trainer.checkpoint_callback
    folder = checkpoints.dirpath if isinstance(checkpoints, ModelCheckpoint) else None
    return Path(folder or trainer.default_root_dir) / LAST


def _wait_while_writing(trainer: Trainer, done: Callable[[float], bool]) -> None:
    """Wait for a save: long where a file is being written, which takes its time; else not."""
    folder, began = _last_of(trainer).parent, time.monotonic()
    written_at = began
    while not done(0.05) and (now := time.monotonic()) - began < _LONGEST_SAVE_S:
        if any(folder.glob(PARTIAL)):
            written_at = now
        elif now - written_at > _SAVE_BEGINS_S:
            return


def _saved_at(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0
