"""Checkpoints that survive a kill at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then replaces: either the old checkpoint is there or the whole new one.

    Lightning's own writes its temporary file wherever TMPDIR lies; across file systems the last move is a copy that a kill can cut off.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:  # type: ignore[override]
        """Save a checkpoint.

        Raises:
            OSError: The disk is full or read-only; an older checkpoint of that name is intact.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f".{target.name}.*.partial"):  # of a run that was killed while saving
            stale.unlink(missing_ok=True)
        partial = target.parent / f".{target.name}.{os.getpid()}.partial"
        try:
            with open(partial, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
