"""The trainer's side of the sandbox: it starts a zygote and asks it for processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mentor_pl
from mentor_pl.errors import ToolBackendError
from mentor_pl.tools.sandbox.cell import Cell, Outcome
from mentor_pl.tools.workers.lifeline import Lifeline

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from mentor_pl.tools.sandbox.startup import main; main(int(sys.argv[2]))"
)
# Not random: it seeds itself anew after each fork, which costs every call more than those that import it save.
_PRELOAD = (
    "ast bisect collections datetime decimal fractions functools itertools json linecache math re string traceback"
)
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "LD_BIND_NOW": "1",  # resolve symbols once in the zygote, not in every child
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")},
}
_START_TIMEOUT_S = 60.0
_OPEN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every zygote of a pool is made to.

    Attributes:
        keep_variables: See `child.Confinement`.
        cpu_s: See `child.Confinement`.
        memory_bytes: See `child.Confinement`.
        disk_bytes: See `child.Confinement`.
        max_tasks: Processes and threads that the code of one zygote may hold.
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
    max_tasks: int
    readable: tuple[str, ...]
    sys_path: tuple[str, ...]
    preload: tuple[str, ...]
    namespaces: bool
    max_output_bytes: int

    def for_zygote(self) -> dict[str, Any]:
        """Return the zygote's first message."""
        names = ("keep_variables", "cpu_s", "memory_bytes", "disk_bytes", "max_tasks")
        confinement = {name: getattr(self, name) for name in names}
        paths = {"readable": self.readable, "sys_path": self.sys_path, "preload": (*_PRELOAD.split(), *self.preload)}
        return {"confinement": confinement, "namespaces": self.namespaces, **paths}


class Sandbox:
    """One zygote and the processes that it forks; started when first needed, and again should it be lost.

    Args:
        settings: What it is made to.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._next: Cell | None = None
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
                [sys.executable, "-sSB", "-c", _BOOTSTRAP, root, str(theirs.fileno())],
                pass_fds=(theirs.fileno(), self._lifeline.worker_fd),
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as failure:
            self._lifeline.cut()
            raise ToolBackendError(f"the sandbox cannot be started: {failure}") from failure
        finally:
            theirs.close()
        self._lifeline.tie(self._process.pid)
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

    def _open(self) -> Cell:
        self._ensure_started()
        try:
            self._control.send(b"open")
            message, descriptors, _, _ = socket.recv_fds(self._control, 4096, 3)
            if len(descriptors) != 3:
                raise OSError(f"it answered {message!r}")
        except OSError as failure:
            self._kill()
            raise ToolBackendError(f"the sandbox was lost: {failure}") from failure
        return Cell(descriptors, self._settings.max_output_bytes)

    def run_once(self, code: bytes, timeout_s: float) -> Outcome:
        """Run a piece of code in a process of its own; one at a time.

        Args:
            code: Python source, UTF-8.
            timeout_s: Wall-clock seconds.

        Raises:
            ToolBackendError: The sandbox itself failed.
        """
        with self._lock:
            cell, self._next = self._next or self._open(), None
            try:
                outcome, self._next = cell.run(code, timeout_s)
            except OSError as failure:
                self._kill()
                raise ToolBackendError(f"the sandbox was lost: {failure}") from failure
            return outcome

    @contextlib.contextmanager
    def session(self) -> Generator[Callable[[bytes, float], Outcome]]:
        """Open a process that runs piece after piece of code, like `run_once`; many at a time."""
        cell: Cell | None = None

        def run(code: bytes, timeout_s: float) -> Outcome:
            nonlocal cell
            if cell is None:
                with self._lock:
                    cell = self._open()
            if not cell.alive:
                return Outcome(status="gone")
            try:
                return cell.run(code, timeout_s)[0]
            except OSError as failure:
                raise ToolBackendError(f"the session was lost with its variables: {failure}") from failure

        try:
            yield run
        finally:
            if cell is not None:
                cell.close()
