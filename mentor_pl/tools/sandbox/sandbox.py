"""The trainer's side of the sandbox: it starts a zygote, hands it code, and collects output and verdict."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mentor_pl
from mentor_pl.errors import ToolBackendError
from mentor_pl.tools.sandbox.cell import Cell, Outcome
from mentor_pl.tools.sandbox.child import LENGTH
from mentor_pl.tools.workers.lifeline import Lifeline

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from mentor_pl.tools.sandbox.zygote import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_PRELOAD = "ast collections datetime decimal fractions functools itertools json linecache math random re statistics string traceback"
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
_START_TIMEOUT_S = 60.0
_OPEN_TIMEOUT_S = 5.0
_GRACE_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every zygote of a pool is made to.

    Attributes:
        keep_variables: See `child.Confinement`.
        cpu_s: See `child.Confinement`.
        memory_bytes: See `child.Confinement`.
        disk_bytes: See `child.Confinement`.
        readable: Paths that code may read.
        sys_path: Where code may import from.
        preload: Modules that are imported already when code starts.
        namespaces: True to enter namespaces where the host grants them.
        max_output_bytes: Code that prints more is stopped.
    """

    keep_variables: bool
    cpu_s: int | None
    memory_bytes: int
    disk_bytes: int
    readable: tuple[str, ...]
    sys_path: tuple[str, ...]
    preload: tuple[str, ...]
    namespaces: bool
    max_output_bytes: int

    def for_zygote(self) -> dict[str, Any]:
        """Return the zygote's first message."""
        confinement = {name: getattr(self, name) for name in ("keep_variables", "cpu_s", "memory_bytes", "disk_bytes")}
        paths = {"readable": self.readable, "sys_path": self.sys_path, "preload": (*_PRELOAD.split(), *self.preload)}
        return {"confinement": confinement, "namespaces": self.namespaces, **paths}


class Sandbox:
    """One zygote, in which one piece of code runs at a time; started with the first, and again should it be lost.

    Args:
        settings: What it is made to.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._next: Cell | None = None
        self._generation = 0  # zygotes so far: keys are process ids, which another zygote uses again
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: Lifeline | None = None
        self._control = socket.socket()
        self.features: Mapping[str, Any] = {}

    def start(self) -> None:
        """Start the zygote where it does not run.

        Raises:
            ToolBackendError: It cannot be started.
        """
        with self._lock:
            self._ensure_started()

    def _ensure_started(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._kill()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control, self._lifeline = ours, Lifeline()
        root = str(Path(mentor_pl.__file__).parent.parent)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-sSB", "-c", _BOOTSTRAP, root, str(theirs.fileno()), str(self._lifeline.worker_fd)],
                pass_fds=(theirs.fileno(), self._lifeline.worker_fd),
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", **_ONE_THREAD},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as failure:
            raise ToolBackendError(f"the sandbox cannot be started: {failure}") from failure
        finally:
            theirs.close()
            self._lifeline.forget_worker_fd()
        ours.settimeout(_START_TIMEOUT_S)
        try:
            ours.send(json.dumps(self._settings.for_zygote()).encode())
            greeting = ours.recv(4096)
        except OSError:
            greeting = b""
        if not greeting:
            self._kill()
            raise ToolBackendError("the sandbox did not start; its own words are on standard error")
        ours.settimeout(_OPEN_TIMEOUT_S)
        self.features = json.loads(greeting)
        self._generation += 1

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._lifeline is not None:
            self._lifeline.cut()
        if self._next is not None:
            self._next.close()
            self._next = None
        self._control.close()

    def close(self) -> None:
        """Kill the zygote and all that runs in it."""
        with self._lock:
            self._kill()

    def run_once(self, code: bytes, timeout_s: float) -> Outcome:
        """Run a piece of code in a process of its own.

        Args:
            code: Python source, UTF-8.
            timeout_s: Wall-clock seconds.

        Raises:
            ToolBackendError: The sandbox itself failed.
        """
        with self._guarded():
            cell, self._next = self._next or self._open(), None
            outcome, self._next = self._run(cell, code, timeout_s, another=True)
            return outcome

    @contextlib.contextmanager
    def session(self) -> Generator[Callable[[bytes, float], Outcome]]:
        """Open a process that runs piece after piece of code, like `run_once`; after an outcome that ends it, the status is "gone"."""
        cell: Cell | None = None
        generation = 0

        def run(code: bytes, timeout_s: float) -> Outcome:
            nonlocal cell, generation
            with self._guarded():
                if cell is None:
                    cell, generation = self._open(), self._generation
                if generation != self._generation:
                    raise ToolBackendError("the sandbox was lost, and the session's variables with it")
                if not cell.alive:
                    return Outcome(status="gone", output="")
                return self._run(cell, code, timeout_s, another=False)[0]

        try:
            yield run
        finally:
            if cell is not None and cell.alive:
                with self._lock:
                    cell.close()
                    if generation == self._generation:
                        with contextlib.suppress(OSError):
                            self._control.send(json.dumps({"end": cell.key}).encode())

    @contextlib.contextmanager
    def _guarded(self) -> Generator[None]:
        """Hold the zygote for one call, and give it up for lost where it does not keep to the protocol."""
        with self._lock:
            self._ensure_started()
            try:
                yield
            except OSError as failure:
                self._kill()
                raise ToolBackendError(f"the sandbox was lost: {failure}") from failure

    def _open(self) -> Cell:
        self._control.send(b'{"open": true}')
        answer, cell = self._receive()
        if cell is None:
            raise OSError(f"it opened nothing: {answer}")
        return cell

    def _receive(self) -> tuple[dict[str, Any], Cell | None]:
        message, fds, _, _ = socket.recv_fds(self._control, 4096, 2)
        if not message:
            raise OSError("it ended")
        answer = json.loads(message)
        return answer, Cell(answer["cell"], *fds) if fds else None

    def _run(self, cell: Cell, code: bytes, timeout_s: float, *, another: bool) -> tuple[Outcome, Cell | None]:
        try:
            self._control.send(json.dumps({"run": cell.key, "timeout_s": timeout_s, "next": another}).encode())
            output, answer, following = self._converse(cell, LENGTH.pack(len(code)) + code, timeout_s + _GRACE_S)
        except OSError:
            cell.close()
            raise
        if not answer["alive"]:
            cell.close()
        if answer["status"] in ("unconfined", "lost"):
            raise OSError(f"a process was {answer['status']}; its own words are on standard error")
        text = bytes(output[: self._settings.max_output_bytes]).decode("utf-8", "replace")
        return Outcome(status=answer["status"], output=text), following

    def _converse(self, cell: Cell, code: bytes, patience_s: float) -> tuple[bytearray, dict[str, Any], Cell | None]:
        """Hand over the code and collect output until the zygote has given its verdict."""
        output = bytearray()
        limit = self._settings.max_output_bytes + 1
        deadline = time.monotonic() + patience_s
        poll = select.poll()
        poll.register(cell.code_fd, select.POLLOUT)
        poll.register(cell.output_fd, select.POLLIN)
        poll.register(self._control.fileno(), select.POLLIN)
        while True:
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1e3))
            if not ready:
                raise OSError("it does not answer")
            if cell.code_fd in ready:
                code = cell.write_from(code) if ready[cell.code_fd] == select.POLLOUT else b""
                if not code:
                    poll.unregister(cell.code_fd)
            if cell.output_fd in ready:
                if not cell.read_into(output, limit) or len(output) == limit:
                    poll.unregister(cell.output_fd)
                if len(output) == limit:
                    self._control.send(b'{"stop": true}')
            if self._control.fileno() in ready:
                answer, following = self._receive()
                cell.read_into(output, limit)
                return output, answer, following
