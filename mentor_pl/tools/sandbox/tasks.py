"""A limit on the tasks (processes and threads) that code may hold, kept by the kernel whatever system call makes them.

A thread costs no memory where it is made by a bare `clone` without a stack of its own: one call
could take every process id of the machine. RLIMIT_NPROC counts the tasks of a user, since Linux
5.14 apart for each user namespace (`man 2 getrlimit`); so it limits code alone where that runs in a
user namespace or under a user of its own. cgroups would do, too, but are rarely given to a trainer.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable
from typing import NamedTuple

from mentor_pl.tools.sandbox import kernel

_LEAST, _MOST, _MOST_IN_SESSIONS = 16, 64, 512
_SHARE = 20
"""All code together may hold one of so many process ids."""


class TaskLimit(NamedTuple):
    """What children of a zygote may hold.

    Attributes:
        tasks: Tasks of their user; None: they may start no threads at all, since the kernel would
            not count them.
        counted: What is counted together, in words.
    """

    tasks: int | None
    counted: str


def budget(*, workers: int, keep_variables: bool) -> int:
    """Return how many tasks the code of one zygote may hold, so that a twentieth of all process ids is enough for all zygotes.

    Args:
        workers: Zygotes of a pool.
        keep_variables: Whether many sessions share one.
    """
    share = _process_ids() // _SHARE // workers
    return max(_LEAST, min(_MOST_IN_SESSIONS if keep_variables else _MOST, share))


def _process_ids() -> int:
    with open("/proc/sys/kernel/pid_max") as file:
        return int(file.read())


def choose(tasks: int, *, in_own_namespace: bool, has_own_user: bool) -> TaskLimit:
    """Choose a limit that this kernel keeps, and try it.

    Args:
        tasks: What the code of this zygote may hold.
        in_own_namespace: Whether this process is in a user namespace of its own.
        has_own_user: Whether nobody else runs as its user.
    """
    if _can_fork(1):  # the kernel exempts root, whatever rights it has given up
        return TaskLimit(None, "no threads: the kernel would not count them (RLIMIT_NPROC does not hold for this user)")
    own = "in a user namespace of its own" if in_own_namespace else "of a user of its own"
    if (in_own_namespace or has_own_user) and _can_fork(tasks):
        return TaskLimit(tasks, f"{tasks} tasks {own}")
    present = _tasks_of(os.getuid())
    allowed = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    room = _process_ids() if allowed < 0 else min(_process_ids(), allowed)
    more = max(_LEAST, min(_process_ids() // _SHARE, (room - present) // 10))
    return TaskLimit(present + more, f"{more} tasks above the {present} that the user had at the start")


def _can_fork(limit: int) -> bool:
    """Tell whether a process can be forked under a limit, by a child: a limit cannot be raised again."""

    def fork() -> int:
        kernel.drop_capabilities()  # some of them lift the limit
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
        try:
            pid = os.fork()
        except BlockingIOError:
            return 1
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return 0

    return _status_of(fork) == 0


def _status_of(function: Callable[[], int]) -> int:
    if (pid := os.fork()) == 0:
        status = 2
        try:
            status = function()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _tasks_of(uid: int) -> int:
    count = 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{entry}/task"))
    return count
