"""The checkpoints of a run: the best ones, and always the newest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mentor_pl.training.module import MentorModule

LAST = "last.ckpt"
_MOST_OF_THE_TIME = 0.1
"""Share of the time that saving `last.ckpt` may take."""


class RunCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, with a `last.ckpt` that is always the newest.

    `last.ckpt` is written between two rounds: after every checkpoint of another name, whenever the
    last one is older than `last_every_s`, when training ends, and when the run is asked to stop or
    fails. Every metric up to then is in the log before it.

    Args:
        save_last: Whether to keep `last.ckpt`.
        last_every_s: Seconds of work that a kill costs at most, beside a round. Where writing takes
            long, it is done less often, so that it takes at most a tenth of the time.
        **settings: Of Lightning's `ModelCheckpoint`.
    """

    def __init__(self, save_last: bool = True, last_every_s: float = 60.0, **settings: Any) -> None:
        super().__init__(save_last=False, **settings)
        self.keep_last = save_last
        self.last_every_s = last_every_s
        self._last_step = 0
        self._last_saved_at = 0.0
        self._last_took_s = 0.0
        self._others: tuple[str, ...] = ()

    def switch_off(self) -> None:
        """Save nothing."""
        self.save_top_k = 0
        self.keep_last = False

    def format_checkpoint_name(self, *arguments: Any, **options: Any) -> str:
        """Name a checkpoint after its metrics; the slashes in these make no folders."""
        folder = str(self.dirpath) if self.dirpath else ""
        name = super().format_checkpoint_name(*arguments, **options)
        inside = name[len(folder) :].lstrip("/") if folder and name.startswith(folder) else name
        plain = inside.replace("/", "_")
        return str(Path(folder) / plain) if inside is not name else plain

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to keep the newest one."""
        super().on_train_start(trainer, pl_module)
        self._last_saved_at = time.monotonic()
        self._last_step = trainer.global_step
        self._others = self._other_names()
        self.keep_last &= not bool(getattr(trainer, "fast_dev_run", False))
        if self.keep_last and isinstance(pl_module, MentorModule):
            pl_module.controller.before_round.append(lambda: self._save_last_if_due(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the newest one before the last evaluation and the export."""
        super().on_train_end(trainer, pl_module)
        if self.keep_last and trainer.global_step > self._last_step:
            self.save_newest(trainer)

    def _save_last_if_due(self, trainer: Trainer) -> None:
        if trainer.global_step <= self._last_step:
            return
        others = self._other_names()
        age_s = time.monotonic() - self._last_saved_at
        due = others != self._others or age_s >= max(self.last_every_s, self._last_took_s / _MOST_OF_THE_TIME)
        self._others = others
        if trainer.strategy.broadcast(due):  # ranks have clocks of their own
            self.save_newest(trainer)

    def save_newest(self, trainer: Trainer) -> Path:
        """Save `last.ckpt`, with the log up to it, and return its path. All ranks call this together."""
        began = time.monotonic()
        for logger in trainer.loggers:
            logger.save()
        path = Path(self.dirpath or trainer.default_root_dir) / LAST
        trainer.save_checkpoint(path)
        self._last_step = trainer.global_step
        self._last_saved_at = time.monotonic()
        self._last_took_s = self._last_saved_at - began
        return path

    def _other_names(self) -> tuple[str, ...]:
        return (self.best_model_path, *self.best_k_models)
