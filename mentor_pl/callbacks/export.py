"""Leaves the trained student as an ordinary Hugging Face folder."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.callbacks.model_card import model_card
from mentor_pl.students.export import export_student
from mentor_pl.training.fsdp2 import gathered
from mentor_pl.training.module import MentorModule

log = logging.getLogger(__name__)


class ExportStudent(Callback):
    """Writes the student to `student/` of the run's folder when training ends.

    Args:
        enabled: Whether to write it.
        merge: Whether an adapter is merged into its base; otherwise the adapter alone is written.
    """

    def __init__(self, enabled: bool = True, merge: bool = True) -> None:
        self.enabled = enabled
        self.merge = merge

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it, on rank 0."""
        if not self.enabled or not isinstance(pl_module, MentorModule) or pl_module.student is None:
            return
        with gathered(pl_module.student) as student:
            if trainer.is_global_zero:
                run_dir = Path(trainer.default_root_dir)
                card = None
                if (run_dir / "config.yaml").is_file():  # a Trainer of one's own writes none
                    card = model_card(run_dir, steps=trainer.global_step, adapter_only=not self.merge)
                export_student(student, pl_module.tokenizer, run_dir / "student", merge=self.merge, card=card)
                log.info("the trained student is in %s", run_dir / "student")
        trainer.strategy.barrier()
