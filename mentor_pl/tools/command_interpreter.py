"""Python as a tool in a confinement of the user's own choice: bubblewrap, a container, another interpreter."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import AbstractContextManager, nullcontext

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.interpreter import MAX_OUTPUT_BYTES, interpreted, python_spec, refused_code
from mentor_pl.tools.results import refused
from mentor_pl.tools.sandbox.cell import Outcome
from mentor_pl.tools.threads import check_workers


class CommandInterpreter(ToolBackend):
    """Runs a command for each call, which reads Python from its standard input and confines it: as safe as that command is.

    The same tool as `PythonInterpreter`, for machines where that one's kernel features are missing.
    Time and output are limited here; everything else is the command's affair, and so is ending with
    the trainer (`bwrap --die-with-parent`, `docker run --rm --init`).

    Args:
        command: Program and arguments, for example `[bwrap, --unshare-all, --die-with-parent,
            --ro-bind, /usr, /usr, ..., python3, "-"]` or `[docker, run, --rm, -i, --network=none,
            "python:3.12-slim", python, "-"]`.
        timeout_s: Wall-clock seconds of one call, after which the command's process group is
            killed.
        max_output_chars: Longer output is cut, with a line that says so; a call that prints over a
            million bytes is stopped.
        workers: How many calls run at once.
        name: The tool's name.

    Raises:
        ConfigError: The program does not exist, or a limit is not above 0.
    """

    parallel = True

    def __init__(
        self,
        command: list[str],
        timeout_s: float = 5.0,
        max_output_chars: int = 10_000,
        workers: int = 2,
        name: str = "python",
    ) -> None:
        for key, value in (("timeout_s", timeout_s), ("max_output_chars", max_output_chars)):
            if value <= 0:
                raise ConfigError(f"CommandInterpreter.{key} is {value}; it must be above 0")
        check_workers("CommandInterpreter", workers)
        if not command or shutil.which(command[0]) is None:
            raise ConfigError(
                f"CommandInterpreter.command: {command[:1] or 'nothing'} is not a program on this machine"
            )
        self._command = command
        self._timeout_s, self._max_output_chars = timeout_s, max_output_chars
        self._places = threading.Semaphore(workers)
        self._spec = python_spec(name, keep_variables=False)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """One tool, which takes `code`."""
        return (self._spec,)

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session; calls share nothing."""
        return nullcontext(ToolSession(run=self._run))

    def _run(self, call: ToolCall) -> ToolResult:
        if refusal := refused(call, (self._spec.name,)) or refused_code(call):
            return refusal
        with self._places:
            outcome = self._run_command(call.arguments["code"].encode("utf-8", "replace"))
            return interpreted(call, outcome, self._timeout_s, self._max_output_chars)

    def _run_command(self, code: bytes) -> Outcome:
        start = time.perf_counter()
        with tempfile.TemporaryFile() as source:
            source.write(code)
            source.seek(0)
            try:
                process = subprocess.Popen(
                    self._command,
                    stdin=source,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                    start_new_session=True,
                )
            except OSError as failure:
                raise ToolBackendError(f"{self._command[0]!r} cannot be started: {failure}") from failure
        with process:
            status, output = self._watch(process)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if status == "ended":
            status = "ok" if process.returncode == 0 else "error" if process.returncode > 0 else "crashed"
        return Outcome(status=status, output=output.decode("utf-8", "replace"), duration_s=time.perf_counter() - start)

    def _watch(self, process: subprocess.Popen[bytes]) -> tuple[str, bytes]:
        """Collect output until the command ends, prints too much, or its time is up."""
        assert process.stdout is not None
        output, deadline = b"", time.monotonic() + self._timeout_s
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        while len(output) <= MAX_OUTPUT_BYTES:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
                return "timeout", output
            if not (part := os.read(process.stdout.fileno(), 1 << 16)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
                    return "ended", output
                return "timeout", output
            output += part
        return "output", output[:MAX_OUTPUT_BYTES]
