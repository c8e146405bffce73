"""Checkpoints that survive a kill at any moment, and that any strategy can read."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

METADATA = "meta.pt"
"""File of a sharded checkpoint that holds everything but tensors spread over ranks; Lightning's name."""


DIGESTS = "digests.json"
"""File of a sharded checkpoint that holds the digest of every other one, by its name."""


PARTIAL = ".*.partial"
"""Pattern of the names of checkpoints that are being written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then replaces: either the old checkpoint is there or the whole new one.

    Lightning's own writes its temporary file wherever TMPDIR lies; across file systems the last
    move is a copy that a kill can cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # type: ignore[override]
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
        except RuntimeError as failure:
            if isinstance(disk := failure.__context__, OSError):  # torch's writer stumbles over what it left half done
                raise OSError(disk.errno, f"the checkpoint cannot be saved: {disk.strerror}", str(target)) from failure
            raise
        finally:
            partial.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:  # type: ignore[override]
        """Load a checkpoint, whole: a file, or the folder that sharded ranks wrote."""
        if is_sharded(path):
            return _read_sharded(Path(path), weights_only)
        return super().load_checkpoint(path, map_location=map_location, weights_only=weights_only)


def is_sharded(path: str | Path) -> bool:
    """Tell whether a checkpoint is a folder of shards."""
    return (Path(path) / METADATA).is_file()


def file_digest(file: Path) -> str:
    """Return the CRC-32 of a file, which finds flipped bits."""
    digest = 0
    with open(file, "rb") as content:
        while part := content.read(1 << 22):
            digest = zlib.crc32(part, digest)
    return f"{digest:08x}"


def damaged_shard(folder: Path) -> str | None:
    """Return the name of a file of a sharded checkpoint that is missing or not as it was written; None where all are.

    A checkpoint without digests is not looked at.
    """
    if not (folder / DIGESTS).is_file():
        return None
    try:
        digests: dict[str, str] = json.loads((folder / DIGESTS).read_text())
    except ValueError:
        return DIGESTS
    for name, digest in digests.items():
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            return name
    return None


def _read_sharded(folder: Path, weights_only: bool | None) -> dict[str, Any]:
    state: dict[str, Any] = {}
    _load_state_dict(state, FileSystemReader(folder), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    optimizers = sorted(key for key in state if key.startswith("optimizer_"))
    return {
        **torch.load(folder / METADATA, map_location="cpu", weights_only=weights_only),
        "state_dict": state["state_dict"],
        "optimizer_states": [by_index(state[key]) for key in optimizers],
    }


def by_index(state: dict[str, Any]) -> dict[str, Any]:
    """Number the parameters of an optimiser's state, as `Optimizer.state_dict` does; they come under their names."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    return _renamed(state, {name: index for index, name in enumerate(names)})


def by_name(state: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Name the parameters of an optimiser's state, which are numbered in the order of `names`."""
    return _renamed(state, dict(enumerate(names)))


def _renamed(state: dict[str, Any], new: dict[Any, Any]) -> dict[str, Any]:
    groups = [{**group, "params": [new[key] for key in group["params"]]} for group in state["param_groups"]]
    return {"state": {new[key]: value for key, value in state["state"].items()}, "param_groups": groups}
