"""A small warm process that forks confined children and decides, from outside, how their calls ended.

On its own socket the trainer asks for children: any message, answered by `{}` with three
descriptors, which are a child's *cell*: the pipe on which its code is written, the pipe on which
its output is read, and a socket for commands about it, JSON again:

- `{"run": timeout_s}` runs what is written on the code pipe, and is answered by `{"status": ...,
  "alive": ...}`. Where each child runs one piece of code only, the answer brings the cell of the
  next one, which was forked while this one was running.
- `{"stop": true}` ends a run: too much output. Closing the socket ends the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

from mentor_pl.tools.sandbox import child, seccomp


class _Process:
    """A forked child.

    Attributes:
        pid: Its process id.
        pidfd: Becomes readable when it ends.
        status_fd: Our end of its status pipe, not blocking.
        control: Commands about it.
        trainer_ends: The descriptors of its cell, until they are sent.
        reached: True once it has confined itself.
        deadline: When its run has to end, by the monotonic clock; None while it does not run.
    """

    __slots__ = ("control", "deadline", "pid", "pidfd", "reached", "status_fd", "trainer_ends")

    def __init__(self, pid: int, status_fd: int, control: socket.socket, trainer_ends: list[int]) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.status_fd = status_fd
        self.control = control
        self.trainer_ends = trainer_ends
        self.reached = False
        self.deadline: float | None = None


class Zygote:
    """Serves one trainer.

    Args:
        control: The socket on which the trainer asks for children.
        confinement: What every child is made to.
        rules: Landlock ruleset for the children.
        disks: Where each child runs one piece of code only, on the same disk: a byte sent here
            replaces it, and a byte comes back.
    """

    def __init__(
        self,
        control: socket.socket,
        confinement: child.Confinement,
        rules: int,
        disks: socket.socket | None,
    ) -> None:
        self._control = control
        self._confinement = confinement
        self._rules = rules
        self._system_calls = seccomp.Filter(threads=confinement.max_tasks is not None)
        self._disks = disks
        self._disk_born = self._disk_touched()
        self._spare: _Process | None = None
        self._by_fd: dict[int, _Process] = {}
        self._running: dict[int, _Process] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Answer commands until the trainer closes the socket; no child survives that."""
        while True:
            deadlines = [process.deadline for process in self._running.values() if process.deadline is not None]
            patience_ms = max(0.0, min(deadlines) - time.monotonic()) * 1e3 if deadlines else None
            ready = {fd for fd, _ in self._poll.poll(patience_ms)}
            if self._control.fileno() in ready:
                if not self._control.recv(64):
                    break
                self._send(self._control, {}, self._next_process())
            for process in {p.pid: p for fd in ready if (p := self._by_fd.get(fd)) is not None}.values():
                self._attend(process, ready)
            for process in list(self._running.values()):
                if process.deadline is not None and process.deadline <= time.monotonic():
                    self._finish(process, "timeout")
        for process in {p.pid: p for p in self._by_fd.values()}.values():
            self._end(process)

    def _fork(self) -> _Process:
        code_fd, trainer_code_fd = os.pipe()
        trainer_output_fd, output_fd = os.pipe()
        status_fd, child_status_fd = os.pipe()
        os.set_blocking(status_fd, False)
        control, trainer_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                self._become_child(code_fd, output_fd, child_status_fd)
            finally:
                os._exit(125)
        for fd in (code_fd, output_fd, child_status_fd):
            os.close(fd)
        process = _Process(pid, status_fd, control, [trainer_code_fd, trainer_output_fd, trainer_control.detach()])
        for fd in (process.pidfd, process.status_fd, control.fileno()):
            self._by_fd[fd] = process
        self._poll.register(control, select.POLLIN)
        return process

    def _become_child(self, code_fd: int, output_fd: int, status_fd: int) -> None:
        # What is copied lies above what it is copied to: `startup` has seen to that.
        os.dup2(output_fd, 1)
        os.dup2(output_fd, 2)
        os.dup2(status_fd, child.STATUS_FD)
        os.dup2(code_fd, child.CODE_FD)
        os.dup2(self._rules, child.RULES_FD)
        os.closerange(child.RULES_FD + 1, 1 << 20)
        child.run(self._confinement, self._system_calls)

    def _next_process(self) -> _Process:
        process, self._spare = self._spare or self._fork(), None
        return process

    def _send(self, to: socket.socket, fields: Mapping[str, Any], process: _Process | None) -> None:
        with contextlib.suppress(OSError):  # whoever asked may be gone
            socket.send_fds(to, [json.dumps(fields).encode()], process.trainer_ends if process else [])
        if process is not None:
            self._close_trainer_ends(process)

    def _close_trainer_ends(self, process: _Process) -> None:
        for fd in process.trainer_ends:
            os.close(fd)
        process.trainer_ends = []

    def _attend(self, process: _Process, ready: set[int]) -> None:
        """Hear what the process says before noticing that it ended, and that before obeying the trainer."""
        if process.status_fd in ready:
            self._hear(process)
        elif process.pidfd in ready:
            self._finish(process, "exited")
        elif process.control.fileno() in ready:
            self._obey(process)

    def _obey(self, process: _Process) -> None:
        try:
            message = process.control.recv(4096)
        except OSError:
            message = b""
        command: dict[str, Any] = json.loads(message) if message else {}
        if not message:
            self._end(process)
        elif "run" in command and process.deadline is None:
            self._start(process, command["run"])
        elif "stop" in command and process.deadline is not None:
            self._finish(process, "output")

    def _start(self, process: _Process, timeout_s: float) -> None:
        process.deadline = time.monotonic() + timeout_s
        self._running[process.pid] = process
        self._poll.register(process.pidfd, select.POLLIN)
        if not self._confinement.keep_variables:
            if self._spare is None:
                self._spare = self._fork()
            return
        if process.reached:
            self._forget_stale_words(process)
        os.kill(process.pid, signal.SIGCONT)
        self._poll.register(process.status_fd, select.POLLIN)

    def _forget_stale_words(self, process: _Process) -> None:
        """Drop what the code itself may have written to its status pipe ahead of time."""
        with contextlib.suppress(BlockingIOError):
            while os.read(process.status_fd, 4096):
                pass

    def _hear(self, process: _Process) -> None:
        word = os.read(process.status_fd, 1)
        if word == child.REACHED:
            process.reached = True
        elif not word:
            self._poll.unregister(process.status_fd)
        elif self._confinement.keep_variables and word in (child.DONE, child.RAISED):
            # Stopped between calls, so that a thread left behind costs nothing and prints nothing.
            os.kill(process.pid, signal.SIGSTOP)
            self._rest(process)
            self._send(process.control, {"status": "ok" if word == child.DONE else "error", "alive": True}, None)

    def _rest(self, process: _Process) -> None:
        if process.deadline is not None:
            process.deadline = None
            del self._running[process.pid]
            for fd in (process.status_fd, process.pidfd):
                with contextlib.suppress(KeyError):
                    self._poll.unregister(fd)

    def _finish(self, process: _Process, status: str) -> None:
        """End a run together with its process, and say how it ended."""
        exit_status = self._kill(process)
        with contextlib.suppress(BlockingIOError):
            process.reached = process.reached or os.read(process.status_fd, 1) == child.REACHED
        if not process.reached:
            status = "unconfined"
        elif status == "exited":
            status = "ok" if exit_status == 0 else "error" if exit_status > 0 else "crashed"
        following = None
        if not self._confinement.keep_variables:
            self._clean_disk()
            following = self._next_process()
        self._send(process.control, {"status": status, "alive": False}, following)
        self._forget(process)

    def _disk_touched(self) -> int:
        # Of the directory itself: it tells of files that were deleted again, too. Code cannot set it.
        return os.stat(self._confinement.writable or "/").st_mtime_ns if self._disks else 0

    def _clean_disk(self) -> None:
        """Replace the disk that ended code has written to, and the spare child that already stands on it."""
        if self._disks is None or self._disk_touched() == self._disk_born:
            return  # a new disk costs milliseconds, so an unused one is kept
        if self._spare is not None:
            self._end(self._spare)
            self._spare = None
        self._disks.send(b"+")
        if not self._disks.recv(1):
            os._exit(1)
        self._disk_born = self._disk_touched()

    def _end(self, process: _Process) -> None:
        self._kill(process)
        self._forget(process)

    def _kill(self, process: _Process) -> int:
        """Kill a child that may still live, and return its exit status, negative for a signal."""
        self._rest(process)
        os.kill(process.pid, signal.SIGKILL)  # of one that has exited already, it changes nothing
        return os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])

    def _forget(self, process: _Process) -> None:
        self._poll.unregister(process.control)
        for fd in (process.pidfd, process.status_fd, process.control.fileno()):
            del self._by_fd[fd]
        os.close(process.pidfd)
        os.close(process.status_fd)
        process.control.close()
        self._close_trainer_ends(process)
