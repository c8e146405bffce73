"""The trainer's side of a worker: start it, send calls with a time limit that holds, kill it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal

from mentor_pl.errors import ConfigError, PluginError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.tools.results import failed
from mentor_pl.tools.workers.lifeline import Lifeline

_START_TIMEOUT_S = 120.0

Question = Literal["state", "score"]
"""What an instance can be asked besides its tools."""


class WorkerLost(Exception):
    """A worker or session that cannot serve calls any more.

    Attributes:
        during_call: True where it went while a call ran, so that the call is to blame.
    """

    def __init__(self, reason: str, *, during_call: bool) -> None:
        super().__init__(reason)
        self.during_call = during_call


def exchange(channel: Connection, call: ToolCall, timeout_s: float) -> ToolResult:
    """Send one call and wait for its answer.

    Raises:
        TimeoutError: No answer within `timeout_s`; the other side still runs the call and has to be
            killed.
        WorkerLost: The other side is gone.
    """
    start = time.perf_counter()
    try:
        channel.send_bytes(f"{call.name}\n{json.dumps(dict(call.arguments))}".encode())
    except OSError as gone:
        raise WorkerLost(str(gone), during_call=False) from gone
    try:
        if not channel.poll(timeout_s):
            raise TimeoutError
        status, text, length = json.loads(channel.recv_bytes())
    except (EOFError, OSError) as gone:
        if isinstance(gone, TimeoutError):
            raise
        raise WorkerLost(str(gone), during_call=True) from gone
    return ToolResult(
        call_id=call.call_id,
        content=text,
        status=ToolStatus(status),
        duration_s=time.perf_counter() - start,
        output_chars=length,
    )


def run_or_explain(channel: Connection, call: ToolCall, timeout_s: float) -> tuple[ToolResult, bool]:
    """Run one call; return its result and whether the other side can serve another.

    Raises:
        WorkerLost: The other side was gone before the call began.
    """
    start = time.perf_counter()
    try:
        return exchange(channel, call, timeout_s), True
    except TimeoutError:
        text = f"{call.name} took longer than {timeout_s:g} s and was stopped"
        return failed(call, text, status=ToolStatus.TIMEOUT, duration_s=time.perf_counter() - start), False
    except WorkerLost as lost:
        if not lost.during_call:
            raise
        # The call's doing, not nobody's: were it masked as infrastructure, crashing would be a way out of being scored.
        return failed(call, f"{call.name} crashed its process", duration_s=time.perf_counter() - start), False


class FunctionWorker:
    """One worker process that has imported a user's module.

    Attributes:
        specs: The tools that it found.
        stateful: True where the module is a class and calls need a session.
        questions: What an instance can be asked besides its tools.
        channel: Takes the calls of plain functions.
    """

    def __init__(self, module: str, functions: Sequence[str] | None, max_chars: int) -> None:
        ours, theirs = socket.socketpair()
        self._lifeline = Lifeline()
        self._control = ours
        self._control_lock = threading.Lock()
        self.channel = Connection(os.dup(ours.fileno()))
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mentor_pl.tools.workers.serve",
                    str(theirs.fileno()),
                    str(self._lifeline.worker_fd),
                ],
                pass_fds=(theirs.fileno(), self._lifeline.worker_fd),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # its own process group, so that one kill takes along whatever a tool has started
            )
        except OSError as failure:
            self._lifeline.cut()
            raise ToolBackendError(f"a tool worker cannot be started: {failure}") from failure
        finally:
            theirs.close()
        self._lifeline.tie(self._process.pid)
        greeting = self._greet({"module": module, "functions": functions, "max_chars": max_chars})
        self.specs = tuple(ToolSpec(**spec) for spec in greeting["specs"])
        self.stateful: bool = greeting["stateful"]
        self.questions: tuple[Question, ...] = tuple(greeting["questions"])

    def _greet(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self.channel.send_bytes(json.dumps(settings).encode())
            if not self.channel.poll(_START_TIMEOUT_S):
                raise EOFError
            greeting = json.loads(self.channel.recv_bytes())
        except (EOFError, OSError) as gone:
            self.kill()
            raise ToolBackendError(
                f"the worker for {settings['module']!r} did not start (exit status {self._process.returncode}); "
                "its own words are on standard error"
            ) from gone
        if "error" in greeting:
            self.kill()
            raise ConfigError(greeting["error"])
        return greeting

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process, everything that it started, and its sessions."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._lifeline.cut()
        self.channel.close()
        self._control.close()

    def open_session(self, timeout_s: float, initial_state: Any = None) -> SessionChild:
        """Fork a child that holds a fresh instance of the user's class.

        Args:
            timeout_s: Seconds that the constructor may take.
            initial_state: For a constructor that takes one, as JSON.

        Raises:
            ToolBackendError: The child cannot be made, or the class cannot be instantiated within
                `timeout_s`.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._control_lock:
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
                pid = int(self._control.recv(64))
            except (OSError, ValueError) as gone:
                ours.close()
                raise ToolBackendError(f"the tool worker is gone: {gone}") from gone
        session = SessionChild(self, pid, Connection(ours.detach()))
        try:
            session.channel.send_bytes(json.dumps(initial_state).encode())
            complaint = json.loads(session.channel.recv_bytes()) if session.channel.poll(timeout_s) else "took too long"
        except (EOFError, OSError):
            complaint = "crashed"
        if complaint is not None:
            session.end()
            raise ToolBackendError(f"a tool session cannot be opened: {complaint}")
        return session

    def end_session(self, pid: int) -> None:
        """Kill one session's child."""
        with self._control_lock, contextlib.suppress(OSError):  # where the worker is gone, so are its children
            self._control.send(str(-pid).encode())
            self._control.recv(64)


class SessionChild:
    """The process of one session."""

    def __init__(self, worker: FunctionWorker, pid: int, channel: Connection) -> None:
        self.channel = channel
        self._worker = worker
        self._pid = pid
        self._ended = False

    def ask(self, question: Question, timeout_s: float) -> Any:
        """Ask the instance for its state or score, as JSON.

        Raises:
            ToolBackendError: It does not answer within `timeout_s`.
            PluginError: Its method raised, or returned what is not JSON.
        """
        try:
            self.channel.send_bytes(f"{question}()\n{{}}".encode())
            if not self.channel.poll(timeout_s):
                raise ToolBackendError(f"{question}() took longer than {timeout_s:g} s")
            status, text, _ = json.loads(self.channel.recv_bytes())
        except (EOFError, OSError) as gone:
            raise ToolBackendError(f"the process died in {question}(): {gone}") from gone
        if status != "ok":
            raise PluginError(f"the tools' class: {text.removeprefix('Error: ')}")
        return json.loads(text)

    def end(self) -> None:
        """Kill the process. May be called again."""
        if not self._ended:
            self._ended = True
            self._worker.end_session(self._pid)
            self.channel.close()
