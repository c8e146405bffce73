"""Keeps what the student did, to be read and scored again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mentor_pl.files.jsonl import AppendWriter
from mentor_pl.files.trajectories import trajectory_to_row
from mentor_pl.training.batching import PolicyBatch


class TrajectoryRecorder(Callback):
    """Writes trajectories as JSON Lines under `trajectories/` of the run's folder; `mentor-pl score` reads them.

    Training's go to `train.rank<r>.jsonl` with their step, reward and scores; predictions to
    `predict.rank<r>.jsonl`.

    Args:
        every_n_rounds: Record one training round in this many; 0 records none.
    """

    def __init__(self, every_n_rounds: int = 1) -> None:
        self.every_n_rounds = every_n_rounds
        self._rounds = 0
        self._writer: AppendWriter | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the file."""
        folder = Path(trainer.default_root_dir) / "trajectories"
        name = {"fit": "train", "predict": "predict"}.get(stage)
        if name is not None and (stage == "predict" or self.every_n_rounds):
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = AppendWriter(folder / f"{name}.rank{trainer.global_rank}.jsonl")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write a round as soon as it is scored."""
        if self._writer is None or not isinstance(batch, PolicyBatch) or not batch.scored_groups:
            return
        self._rounds += 1
        if (self._rounds - 1) % self.every_n_rounds:
            return
        for group in batch.scored_groups:
            for index, trajectory in enumerate(group.group.trajectories):
                self._writer.write(trajectory_to_row(trajectory, step=trainer.global_step, **group.to_row(index)))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the attempts at a batch of problems."""
        if self._writer is not None:
            for group in outputs.groups:
                for trajectory in group.trajectories:
                    self._writer.write(trajectory_to_row(trajectory, split=outputs.split))

    def state_dict(self) -> dict[str, Any]:
        """Saved with every checkpoint."""
        return {"rounds": self._rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting rounds."""
        self._rounds = state_dict["rounds"]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
