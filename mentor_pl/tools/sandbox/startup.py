"""How a zygote comes to be: modules first, then a world of its own, then the loss of every right that it does not need."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from mentor_pl.tools.sandbox import child, kernel, landlock, namespaces, tasks
from mentor_pl.tools.sandbox.zygote import Zygote

# Until the interpreter has specialised what runs, it writes to it, and each child would have to copy what it writes to.
_WARM_UPS = 20


def _hide_ourselves() -> None:
    """Leave nothing importable of this package: its data files are none of the code's business."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mentor_pl"]:
        del sys.modules[name]
    sys.argv = [""]


def _occupy_low_descriptors() -> None:
    """See to it that whatever is opened from now on lies above the descriptors that children are given."""
    while (fd := os.open(os.devnull, os.O_RDONLY)) <= child.RULES_FD:
        pass
    os.close(fd)


def _keep_disks(requests: socket.socket, directory: str, disk_bytes: int, inner: int) -> None:
    """Replace the disk whenever asked, for a zygote that has lost the right to; end with it."""
    while requests.recv(1):
        namespaces.unmount_disk(directory)
        namespaces.mount_disk(directory, disk_bytes)
        requests.send(b"+")
    os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 255)


def _enter_world(place: str, disk_bytes: int) -> tuple[str | None, socket.socket | None]:
    """Enter namespaces, in which this process goes on as another: process 1, at whose end the kernel ends all within.

    Returns:
        Why not (None where it worked), and where to ask for a new disk.
    """
    if refused := namespaces.enter(place):
        return refused, None
    directory = f"{place}/work"
    namespaces.mount_disk(directory, disk_bytes)
    keeper, disks = socket.socketpair()
    if inner := os.fork():
        disks.close()
        _keep_disks(keeper, directory, disk_bytes, inner)
    keeper.close()
    kernel.call("prctl", kernel.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return None, disks


def main(control_fd: int) -> None:
    """Start up as the trainer's first message says, answer with what the host granted, and serve."""
    control = socket.socket(fileno=control_fd)
    _occupy_low_descriptors()
    settings: Mapping[str, Any] = json.loads(control.recv(1 << 20))
    sys.path[:] = settings["sys_path"]
    for module in settings["preload"]:
        importlib.import_module(module)
    became_nobody = namespaces.become_nobody()
    limits = dict(settings["confinement"])
    max_tasks = limits.pop("max_tasks")
    place = namespaces.place_for_disk(settings["readable"])
    refused, disks = "not asked for" if not settings["namespaces"] else "no directory to mount over", None
    if settings["namespaces"] and place is not None:
        refused, disks = _enter_world(place, limits["disk_bytes"])
    writable = f"{place}/work" if disks else None
    os.environ["TMPDIR"] = os.environ["HOME"] = writable or "/nonexistent"
    readable = [*settings["readable"], "/dev/urandom"]
    rules = landlock.ruleset(readable, ["/dev/null", *([str(place)] if writable else [])])
    limit = tasks.choose(max_tasks, in_own_namespace=disks is not None, has_own_user=namespaces.has_own_user())
    confinement = child.Confinement(writable=writable, max_tasks=limit.tasks, **limits)
    for _ in range(_WARM_UPS):
        child.warm_up()
    features = {"landlock": landlock.abi(), "namespaces": refused is None, "why_not": refused, "nobody": became_nobody}
    features["task_limit"] = limit.counted
    child.confine_zygote(confinement, rules)
    zygote = Zygote(control, confinement, rules, None if confinement.keep_variables else disks)
    _hide_ourselves()
    gc.collect()
    gc.freeze()  # children then do not touch, and so not copy, the pages of what is already there
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the trainer was killed meanwhile
        control.send(json.dumps(features).encode())
        zygote.serve()
