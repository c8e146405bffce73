"""A small warm process that forks confined children and decides, from outside, how their calls ended.

Commands come over a sequenced-packet socket as JSON, one at a time, and are answered likewise:

- `{"open": true}` forks a child; the answer `{"cell": key}` brings our ends of its pipes: code to write, output to read.
- `{"run": key, "timeout_s": s, "next": bool}` runs what is written on the code pipe. The answer `{"status": ..., "alive": ...}` brings,
  for `next`, a new `cell` as `open` does, forked while this one was running.
- `{"stop": true}`, in the middle of a run, kills it: too much output. `{"end": key}` kills a child. Neither is answered.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mentor_pl.tools.sandbox import child, kernel, landlock, namespaces, seccomp
from mentor_pl.tools.workers.lifeline import die_with


@dataclass(slots=True)
class _Process:
    """A forked child; `status_fd` is our end of its status pipe, `reached` says that it has confined itself."""

    pid: int
    pidfd: int
    status_fd: int
    reached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """The trainer's ends of a new child's pipes, until they are sent."""

    key: int
    code_fd: int
    output_fd: int

    def close(self) -> None:
        os.close(self.code_fd)
        os.close(self.output_fd)


class Zygote:
    """Serves one trainer.

    Args:
        control: The socket that commands come from.
        confinement: What every child is made to.
        rules: Landlock ruleset for the children.
    """

    def __init__(self, control: socket.socket, confinement: child.Confinement, rules: int) -> None:
        self._control = control
        self._confinement = confinement
        self._rules = rules
        self._system_calls = seccomp.program()
        self._shared_disk = None if confinement.keep_variables else confinement.writable
        if self._shared_disk is not None:
            namespaces.mount_disk(self._shared_disk, confinement.disk_bytes)
        self._processes: dict[int, _Process] = {}

    def serve(self) -> None:
        """Answer commands until the trainer closes the socket; no child survives that."""
        while (command := self._next_command()) is not None:
            if "open" in command:
                self._answer({}, self._fork())
            elif "run" in command:
                self._answer(*self._run(**command))
            elif "end" in command:
                self._end(command["end"])
            # else a `stop` that came after its run had ended
        for key in list(self._processes):
            self._end(key)

    def _next_command(self) -> dict[str, Any] | None:
        message = self._control.recv(4096)
        return json.loads(message) if message else None

    def _answer(self, fields: Mapping[str, Any], opened: _Opened | None) -> None:
        if opened is None:
            self._control.send(json.dumps(fields).encode())
            return
        socket.send_fds(
            self._control, [json.dumps({**fields, "cell": opened.key}).encode()], [opened.code_fd, opened.output_fd]
        )
        opened.close()

    def _fork(self) -> _Opened:
        code_fd, our_code_fd = os.pipe()
        our_output_fd, output_fd = os.pipe()
        status_fd, child_status_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_child(code_fd, output_fd, child_status_fd)
            finally:
                os._exit(125)
        for fd in (code_fd, output_fd, child_status_fd):
            os.close(fd)
        self._processes[pid] = _Process(pid=pid, pidfd=os.pidfd_open(pid), status_fd=status_fd)
        return _Opened(key=pid, code_fd=our_code_fd, output_fd=our_output_fd)

    def _become_child(self, code_fd: int, output_fd: int, status_fd: int) -> None:
        sources = (os.open(os.devnull, os.O_RDONLY), output_fd, output_fd, status_fd, code_fd, self._rules)
        # Out of the way first: a source may lie where another one is to go.
        lifted = [os.dup2(source, 100 + target) for target, source in enumerate(sources)]
        for target, source in enumerate(lifted):
            os.dup2(source, target)
        os.closerange(child.RULES_FD + 1, 4096)
        child.run(self._confinement, self._system_calls)

    def _run(self, *, run: int, timeout_s: float, next: bool) -> tuple[dict[str, Any], _Opened | None]:
        """Wait until the run ends one way or another; return how, whether the child lives on, and the child to come."""
        deadline = time.monotonic() + timeout_s
        if (process := self._processes.get(run)) is None:
            return {"status": "lost", "alive": False}, None
        if self._confinement.keep_variables and process.reached:
            self._forget_stale_words(process)
            os.kill(process.pid, signal.SIGCONT)
        opened = self._fork() if next else None
        status = self._watch(process, deadline)
        if status in ("done", "raised"):
            # Stopped between calls, so that a thread left behind costs nothing and prints nothing.
            os.kill(process.pid, signal.SIGSTOP)
            return {"status": {"done": "ok", "raised": "error"}[status], "alive": True}, opened
        exit_status = self._end(run)
        if not process.reached:
            status = "unconfined"
        elif status == "exited":
            status = "ok" if exit_status == 0 else "error" if exit_status > 0 else "crashed"
        return {"status": status, "alive": False}, self._on_a_clean_disk(opened)

    def _on_a_clean_disk(self, opened: _Opened | None) -> _Opened | None:
        """Replace the disk that ended code has written to, and the child that already stands on it."""
        if self._shared_disk is None or not os.listdir(self._shared_disk):
            return opened  # a new disk costs milliseconds, so an unused one is kept
        namespaces.unmount_disk(self._shared_disk)
        namespaces.mount_disk(self._shared_disk, self._confinement.disk_bytes)
        if opened is None:
            return None
        self._end(opened.key)
        opened.close()
        return self._fork()

    def _watch(self, process: _Process, deadline: float) -> str:
        poll = select.poll()
        for fd in (process.status_fd, process.pidfd, self._control.fileno()):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1e3)]
            if not ready:
                return "timeout"
            if process.status_fd in ready:
                word = os.read(process.status_fd, 1)
                if word == child.REACHED:
                    process.reached = True
                elif self._confinement.keep_variables and word in (child.DONE, child.RAISED):
                    return "done" if word == child.DONE else "raised"
                elif not word:
                    poll.unregister(process.status_fd)
            elif process.pidfd in ready:
                return "exited"
            elif self._control.fileno() in ready:
                if self._next_command() is None:
                    os._exit(0)
                return "output"

    def _forget_stale_words(self, process: _Process) -> None:
        """Drop what the code itself may have written to its status pipe ahead of time."""
        os.set_blocking(process.status_fd, False)
        try:
            while os.read(process.status_fd, 4096):
                pass
        except BlockingIOError:
            pass
        os.set_blocking(process.status_fd, True)

    def _end(self, key: int) -> int:
        """Kill a child that still lives, and return its exit status, negative for a signal."""
        if (process := self._processes.pop(key, None)) is None:
            return 0
        os.kill(process.pid, signal.SIGKILL)  # of one that has exited already, it changes nothing
        status = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        os.close(process.pidfd)
        os.close(process.status_fd)
        return status


def _hide_ourselves() -> None:
    """Leave nothing importable of this package: its data files are none of the code's business."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mentor_pl"]:
        del sys.modules[name]
    sys.argv = [""]


def main(control_fd: int, lifeline_fd: int) -> None:
    """Start up as the trainer's first message says, answer with what the host granted, and serve."""
    die_with(lifeline_fd)
    control = socket.socket(fileno=control_fd)
    settings: Mapping[str, Any] = json.loads(control.recv(1 << 20))
    sys.path[:] = settings["sys_path"]
    for module in settings["preload"]:
        importlib.import_module(module)
    became_nobody = namespaces.become_nobody()
    refused: str | None = "not asked for" if not settings["namespaces"] else "no directory to mount over"
    place = namespaces.place_for_disk(settings["readable"])
    if settings["namespaces"] and place is not None:
        refused = namespaces.enter(place)
        if refused is None:
            if (
                inner := os.fork()
            ):  # its child is process 1 of the namespace: when that ends, the kernel ends all within
                control.close()
                os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 255)
            kernel.call("prctl", kernel.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    writable = f"{place}/work" if refused is None else None
    os.environ["TMPDIR"] = os.environ["HOME"] = writable or "/nonexistent"
    rules = landlock.ruleset([*settings["readable"], "/dev/null", "/dev/urandom"], [str(place)] if writable else [])
    confinement = child.Confinement(writable=writable, **settings["confinement"])
    zygote = Zygote(control, confinement, rules)
    child.limit_zygote(confinement)
    child.warm_up()
    _hide_ourselves()
    gc.collect()
    gc.freeze()  # children then do not touch, and so not copy, the pages of what is already there
    features = {"landlock": landlock.abi(), "namespaces": refused is None, "why_not": refused, "nobody": became_nobody}
    control.send(json.dumps(features).encode())
    zygote.serve()
