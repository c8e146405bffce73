"""Python as a tool: whatever a student writes, run where it can do no harm."""

from __future__ import annotations

import itertools
import math
import queue
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused, truncated
from mentor_pl.tools.sandbox import kernel
from mentor_pl.tools.sandbox.cell import Outcome
from mentor_pl.tools.sandbox.readable import readable_paths
from mentor_pl.tools.sandbox.sandbox import Sandbox, Settings
from mentor_pl.tools.sandbox.tasks import budget
from mentor_pl.tools.threads import check_workers

_MAX_CODE_CHARS = 200_000
MAX_OUTPUT_BYTES = 1 << 20


class PythonInterpreter(ToolBackend):
    """Runs Python that an untrained model wrote, each call in a confined process of its own.

    No network, no other processes, no files but the standard library (to read) and a small empty
    working directory. How a call ended is decided outside the process that ran it. The value of a
    last expression is shown, as in a notebook.

    Args:
        timeout_s: Wall-clock seconds of one call.
        memory_mb: Address space of one call.
        disk_mb: Size of the working directory, and of any file in it.
        max_output_chars: Longer output is cut, with a line that says so; a call that prints over a
            million bytes is stopped.
        workers: How many calls run at once; processes for them are started as needed. With
            `keep_variables` any number of sessions runs at once, in processes forked by so many
            zygotes.
        keep_variables: True keeps variables, imports and files between the calls of one trajectory.
        packages: Installed distributions that code may import beside the standard library, with all
            that they need themselves.
        preload: Modules that are imported already when code starts, which makes calls that use them
            faster.
        namespaces: False does without user, network, process and mount namespaces even where the
            host grants them; code then has no directory to write to.
        name: The tool's name.

    Raises:
        ConfigError: This machine cannot confine code, a package is not installed, or a limit is not
            above 0.
    """

    def __init__(
        self,
        timeout_s: float = 5.0,
        memory_mb: int = 512,
        disk_mb: int = 16,
        max_output_chars: int = 10_000,
        workers: int = 2,
        keep_variables: bool = False,
        packages: list[str] | None = None,
        preload: list[str] | None = None,
        namespaces: bool = True,
        name: str = "python",
    ) -> None:
        limits = {
            "timeout_s": timeout_s,
            "memory_mb": memory_mb,
            "disk_mb": disk_mb,
            "max_output_chars": max_output_chars,
        }
        for key, value in limits.items():
            if value <= 0:
                raise ConfigError(f"PythonInterpreter.{key} is {value}; it must be above 0")
        check_workers("PythonInterpreter", workers)
        if reason := kernel.unsupported():
            raise ConfigError(
                f"PythonInterpreter cannot confine code on this machine: {reason}. Use CommandInterpreter with a confinement that "
                "you have (bubblewrap: `bwrap`, a container: `docker run`), or leave the tool out"
            )
        readable, sys_path = readable_paths(packages or [])
        settings = Settings(
            keep_variables=keep_variables,
            # All threads together; what one core can burn in a call, and a little more. A session has no number of calls.
            cpu_s=None if keep_variables else math.ceil(timeout_s) + 1,
            memory_bytes=memory_mb << 20,
            disk_bytes=disk_mb << 20,
            max_tasks=budget(workers=workers, keep_variables=keep_variables),
            readable=tuple(readable),
            sys_path=tuple(sys_path),
            preload=tuple(preload or ()),
            namespaces=namespaces,
            max_output_bytes=MAX_OUTPUT_BYTES,
        )
        self._timeout_s, self._max_output_chars = timeout_s, max_output_chars
        self.stateful, self.parallel = keep_variables, not keep_variables
        self._sandboxes = [Sandbox(settings) for _ in range(workers)]
        self._sandboxes[0].start()
        self._idle: queue.LifoQueue[Sandbox] = queue.LifoQueue()
        for sandbox in reversed(self._sandboxes):
            self._idle.put(sandbox)
        self._next_for_session = itertools.cycle(self._sandboxes)
        self._spec = python_spec(name, keep_variables=keep_variables)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """One tool, which takes `code`."""
        return (self._spec,)

    @property
    def features(self) -> dict[str, Any]:
        """What the host granted: Landlock's version, namespaces (and if not, why not), another user than root, the limit on tasks."""
        return dict(self._sandboxes[0].features)

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        """Open a session; its process is forked with the first call."""
        if not self.stateful:
            yield ToolSession(run=self._run_apart)
            return
        with next(self._next_for_session).session() as run:
            yield ToolSession(run=lambda call: self._answer(call, run))

    def _run_apart(self, call: ToolCall) -> ToolResult:
        def run(code: bytes, timeout_s: float) -> Outcome:
            sandbox = self._idle.get()
            try:
                return sandbox.run_once(code, timeout_s)
            finally:
                self._idle.put(sandbox)

        return self._answer(call, run)

    def _answer(self, call: ToolCall, run: Callable[[bytes, float], Outcome]) -> ToolResult:
        if refusal := refused(call, (self._spec.name,)) or refused_code(call):
            return refusal
        outcome = run(call.arguments["code"].encode("utf-8", "surrogatepass"), self._timeout_s)
        return interpreted(call, outcome, self._timeout_s, self._max_output_chars)

    def close(self) -> None:
        """Kill all processes."""
        for sandbox in self._sandboxes:
            sandbox.close()


def python_spec(name: str, *, keep_variables: bool) -> ToolSpec:
    """Describe a Python tool to a model."""
    memory = "Variables are kept between calls." if keep_variables else "Each call starts afresh."
    return ToolSpec(
        name=name,
        description=f"Run Python code and return what it prints, and the value of its last expression. {memory}",
        parameters={
            "type": "object",
            "properties": {"code": {"type": "string", "description": "Python source code."}},
            "required": ["code"],
        },
    )


def refused_code(call: ToolCall) -> ToolResult | None:
    """Return the error of a call without usable `code`; None where there is some."""
    if unknown := set(call.arguments) - {"code"}:
        return failed(call, f"{call.name}: {min(unknown)!r:.80} is not an argument; it takes 'code'")
    code = call.arguments.get("code")
    if not isinstance(code, str):
        return failed(call, f"{call.name}: 'code' {'is missing' if code is None else 'should be a string'}")
    if len(code) > _MAX_CODE_CHARS:
        return failed(call, f"{call.name}: 'code' has {len(code)} characters; at most {_MAX_CODE_CHARS} are run")
    return None


def interpreted(call: ToolCall, outcome: Outcome, timeout_s: float, max_chars: int) -> ToolResult:
    """Turn an outcome into what the model is shown."""
    endings = {
        "ok": "" if outcome.output else "[no output]",
        "error": "" if outcome.output else "Error: the code ended with a status that is not 0",
        "timeout": f"Error: the code ran longer than {timeout_s:g} s and was stopped",
        "output": "Error: the code printed more than a million bytes and was stopped",
        "crashed": "Error: a signal killed the code; it used too much memory or processor time, or crashed the interpreter",
        "gone": "Error: the variables were lost when an earlier call ended its process",
    }
    ending = endings[outcome.status]
    shown = truncated(outcome.output.rstrip("\n"), max_chars)
    statuses = {"ok": ToolStatus.OK, "timeout": ToolStatus.TIMEOUT}
    return ToolResult(
        call_id=call.call_id,
        content="\n".join(part for part in (shown, ending) if part),
        status=statuses.get(outcome.status, ToolStatus.ERROR),
        duration_s=outcome.duration_s,
        output_chars=len(outcome.output),
    )
