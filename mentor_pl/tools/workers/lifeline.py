"""Workers that never outlive the trainer, however it dies."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import weakref


class Lifeline:
    """A pipe that nobody writes to: when the trainer dies, the kernel closes its end, and kills the worker's process group for it.

    Attributes:
        worker_fd: The end that the worker inherits and keeps open.
    """

    def __init__(self) -> None:
        self.worker_fd, self._own_fd = os.pipe()
        _open.add(self)

    def tie(self, group: int) -> None:
        """Tie a worker's process group to the trainer's life, and close our copy of the worker's end.

        Done from here, at once, so that it holds for a worker that is still starting; and by the
        kernel, so that it holds for one whose tool keeps the interpreter lock, say within a regular
        expression. Where the kernel is not Linux, the worker has to `watch`.
        """
        if _BY_KERNEL:
            fcntl.fcntl(self.worker_fd, fcntl.F_SETOWN, -group)
            fcntl.fcntl(self.worker_fd, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(self.worker_fd, fcntl.F_SETFL, fcntl.fcntl(self.worker_fd, fcntl.F_GETFL) | os.O_ASYNC)
        self.drop()

    def drop(self) -> None:
        """Close our copy of the worker's end. May be called again."""
        if self.worker_fd >= 0:
            os.close(self.worker_fd)
            self.worker_fd = -1

    def cut(self) -> None:
        """Let go: the worker and its whole process group die now. May be called again."""
        self.drop()
        if self._own_fd >= 0:
            os.close(self._own_fd)
            self._own_fd = -1


_BY_KERNEL = hasattr(fcntl, "F_SETSIG")
_open: weakref.WeakSet[Lifeline] = weakref.WeakSet()


def _cut_all() -> None:
    for line in list(_open):
        line.cut()


# A forked copy of the trainer (a DataLoader worker) would keep the pipe open after the trainer itself is gone.
# Closing a copied descriptor kills nobody: the trainer still holds the pipe.
os.register_at_fork(after_in_child=_cut_all)


def watch(worker_fd: int) -> None:
    """In a worker, where the kernel does not do it: kill this process group as soon as the trainer is gone."""
    if _BY_KERNEL:
        return

    def wait() -> None:
        os.read(worker_fd, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="lifeline").start()
