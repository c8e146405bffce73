"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` to be filled; it takes the target's place at the end, and vanishes on an exception.

    An older folder of that name is replaced. Beside it, because a rename is atomic only within one
    file system.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            replaced = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.rename(replaced)
            fresh.rename(target)
            shutil.rmtree(replaced)
        else:
            fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
