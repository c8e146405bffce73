"""Workers that never outlive the trainer, however it dies."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
import weakref


class Lifeline:
    """The trainer's end of a pipe that nobody writes to: when the trainer dies, the kernel closes it.

    Attributes:
        worker_fd: The end to hand to a worker, which calls `die_with` on it.
    """

    def __init__(self) -> None:
        self.worker_fd, self._own_fd = os.pipe()
        _open.add(self)

    def forget_worker_fd(self) -> None:
        """Close our copy of the worker's end once the worker has its own."""
        os.close(self.worker_fd)

    def cut(self) -> None:
        """Let go: the worker and its whole process group die now. May be called again."""
        if self._own_fd >= 0:
            os.close(self._own_fd)
            self._own_fd = -1


_open: weakref.WeakSet[Lifeline] = weakref.WeakSet()


def _cut_all() -> None:
    for line in list(_open):
        line.cut()


# A forked copy of the trainer (a DataLoader worker) would keep the pipe open after the trainer itself is gone.
# Closing a copied descriptor kills nobody: the trainer still holds the pipe.
os.register_at_fork(after_in_child=_cut_all)


def die_with(fd: int) -> None:
    """Kill this process group as soon as the other end of `fd` closes. To be called by a process that leads its group."""
    if hasattr(fcntl, "F_SETSIG"):
        # Delivered by the kernel: holds too where a tool keeps the interpreter lock, say within a regular expression.
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        poll = select.poll()
        poll.register(fd, 0)
        if poll.poll(0):  # it was cut before we listened
            os.killpg(0, signal.SIGKILL)
        return

    def watch() -> None:
        os.read(fd, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()
