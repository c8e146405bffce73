"""Counts what a run trained on, from within."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.training.batching import PolicyBatch


class TrainedCounts(Callback):
    """Writes `trained.json` to the run's folder: the sequences and tokens that gradients were taken of. A resumed run goes on counting."""

    def __init__(self) -> None:
        self.counts = {"sequences": 0, "tokens": 0}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: PolicyBatch, batch_idx: int
    ) -> None:
        """Count a micro-batch in."""
        self.counts["sequences"] += int(batch.trajectory_index.unique().numel())
        self.counts["tokens"] += int(batch.target_ids.numel())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        (Path(trainer.default_root_dir) / "trained.json").write_text(json.dumps(self.counts))

    def state_dict(self) -> dict[str, int]:
        """Lightning saves this with every checkpoint."""
        return dict(self.counts)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on counting."""
        self.counts = dict(state_dict)
