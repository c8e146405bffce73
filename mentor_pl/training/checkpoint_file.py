"""Reads a checkpoint before anything is loaded from it, and tells what is wrong with it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mentor_pl.errors import ConfigError
from mentor_pl.training.checkpoint_io import METADATA, damaged_shard, is_sharded


def read_checkpoint(path: Path, *, option: str = "--ckpt_path", check_digest: bool = True) -> Mapping[str, Any]:
    """Return what a checkpoint holds; the weights of a single file stay on disk.

    Args:
        path: A file, or the folder that sharded ranks wrote.
        option: What names it on the command line.
        check_digest: Whether every byte is compared with the checksums that were written with it
            (CRC-32 of each part or shard, which finds flipped bits).

    Raises:
        ConfigError: It is missing, cut off, damaged, or no checkpoint.
    """
    if is_sharded(path):
        if check_digest and (name := damaged_shard(path)) is not None:
            raise ConfigError(f"{option}: {path} is damaged: the checksum of its file {name!r} is wrong; {_REMEDY}")
        return torch.load(path / METADATA, map_location="cpu", weights_only=True)
    if not path.is_file():
        raise ConfigError(f"{option}: there is no checkpoint {path}; those of a run are in its folder checkpoints/")
    if not path.stat().st_size:
        raise ConfigError(f"{option}: {path} is empty; {_REMEDY}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() if check_digest else None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as failure:
        raise ConfigError(f"{option}: {path} is cut off, damaged or no checkpoint ({failure}); {_REMEDY}") from None
    if damaged is not None:
        raise ConfigError(f"{option}: {path} is damaged: the checksum of its part {damaged!r} is wrong; {_REMEDY}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError, AttributeError) as failure:
        reason = str(failure).strip().splitlines()[0]
        raise ConfigError(f"{option}: {path} cannot be read as a checkpoint ({reason}); {_REMEDY}") from None
    if not isinstance(checkpoint, dict) or "global_step" not in checkpoint:
        raise ConfigError(f"{option}: {path} is no checkpoint of a run; {_REMEDY}")
    return checkpoint


_REMEDY = "give another checkpoint of the run, for example another file in its folder checkpoints/"
