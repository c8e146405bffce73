"""The folder through which weights go to the servers: it leaves with its process, also one that is killed."""

from __future__ import annotations

import shutil
import uuid
import weakref
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "mentor-pl-"


class ExchangeFolder:
    """A new folder that other users may read. It is removed on `close`, or at the interpreter's end.

    A process that is killed removes nothing. So each holds a lock beside its folder, which the
    system frees when the process is gone; a folder whose lock is free is removed when the next one
    is made in the same place.

    Args:
        parent: Where the folder is made; must exist.

    Raises:
        OSError: Nothing can be written there.
    """

    def __init__(self, parent: Path) -> None:
        if not parent.is_dir():  # FileLock would make it
            raise NotADirectoryError(f"there is no folder {parent}")
        _remove_abandoned(parent)
        self.path = parent / f"{_PREFIX}{uuid.uuid4().hex}"
        lock = FileLock(_lock_of(self.path), thread_local=False)
        lock.acquire(timeout=0)
        self._remove = weakref.finalize(self, _remove, self.path, lock)
        self.path.mkdir()
        self.path.chmod(0o755)  # a server may run as another user, whatever the umask

    def close(self) -> None:
        """Remove the folder."""
        self._remove()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        Path(lock.lock_file).unlink()  # while it is held: a free lock beside a folder says that this one is abandoned
    lock.release()


def _remove_abandoned(parent: Path) -> None:
    for file in parent.glob(f"{_PREFIX}*.lock"):
        if file.is_symlink():
            continue  # not ours: opening it would empty the file that it points to
        lock = FileLock(file)
        with suppress(Timeout, OSError):  # its process lives, or it belongs to another user
            lock.acquire(timeout=0)
            _remove(file.with_suffix(""), lock)
