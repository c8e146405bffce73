"""Any Python functions as tools: type hints and docstrings become specs, calls run in worker processes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused
from mentor_pl.tools.threads import check_workers
from mentor_pl.tools.workers.process import FunctionWorker, Question, SessionChild, WorkerLost, run_or_explain


class PythonFunctions(ToolBackend):
    """Offers a module's typed functions, or the methods of a class with one instance per trajectory.

    Arguments are validated against the type hints, tools are looked up by name (no source text is
    ever built), and run in processes that are killed and replaced when a call hangs or crashes. The
    functions themselves are trusted code: this is no sandbox.

    Args:
        module: Import path (`my_package.tools`) or path of a `.py` file. With `:Class` behind it,
            the tools are the class's public methods and each trajectory gets an instance of its
            own, in a process of its own: what it keeps between calls is its state. A constructor
            with a parameter `initial_state` is given that of the reference (None where it has
            none). The methods `state()`, which returns the state as JSON, and `score()`, which
            judges it in [0, 1], are no tools; they are asked at the trajectory's end.
        functions: Names to offer; by default `__all__`, or else every public function that the
            module defines.
        timeout_s: Seconds that one call may take before it is killed.
        workers: Processes for plain functions, and so how many calls run at once. Started as
            needed. A class needs one only.
        max_output_chars: Longer output is cut, with a line that says so.
        slow: True where the functions wait on something remote; see `ToolBackend.slow`.

    Raises:
        ConfigError: The module cannot be imported, or a function lacks what a spec needs; names
            both.
    """

    def __init__(
        self,
        module: str,
        functions: list[str] | None = None,
        timeout_s: float = 5.0,
        workers: int = 2,
        max_output_chars: int = 10_000,
        slow: bool = False,
    ) -> None:
        for name, value in (("timeout_s", timeout_s), ("max_output_chars", max_output_chars)):
            if value <= 0:
                raise ConfigError(f"PythonFunctions.{name} is {value}; it must be above 0")
        check_workers("PythonFunctions", workers)
        self.slow = slow
        self._module, self._functions = module, functions
        self._timeout_s, self._max_output_chars = timeout_s, max_output_chars
        first = self._start()
        self._specs, self.stateful = first.specs, first.stateful
        self._questions = first.questions
        self.parallel, self.tells_state = not first.stateful, bool(first.questions)
        self._names = tuple(spec.name for spec in self._specs)
        # Last in, first out: a lone thread always meets the same, warm worker. None stands for one not started yet.
        self._idle: queue.LifoQueue[FunctionWorker | None] = queue.LifoQueue()
        for worker in (*[None] * (workers - 1), first):
            self._idle.put(worker)
        self._workers = workers
        self._forking = first
        self._forking_lock = threading.Lock()

    def _start(self) -> FunctionWorker:
        return FunctionWorker(self._module, self._functions, self._max_output_chars)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The functions as tools, in the order of the module."""
        return self._specs

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session: for a class a process with its own instance, for plain functions nothing at all."""
        if not self.stateful:
            return nullcontext(ToolSession(run=self._run))
        return self._own_process(None if reference is None else reference.initial_state)

    def _run(self, call: ToolCall) -> ToolResult:
        if refusal := refused(call, self._names):
            return refusal
        worker = self._idle.get()
        try:
            while True:
                if worker is None or not worker.alive:
                    worker = self._start()
                try:
                    result, usable = run_or_explain(worker.channel, call, self._timeout_s)
                except WorkerLost:
                    worker.kill()  # died between calls, through no fault of this one
                    continue
                if not usable:
                    worker.kill()
                    worker = None
                return result
        finally:
            self._idle.put(worker)

    def _open_child(self, initial_state: Any) -> SessionChild:
        with self._forking_lock:
            if not self._forking.alive:
                self._forking.kill()
                self._forking = self._start()
        return self._forking.open_session(self._timeout_s, initial_state)

    @contextmanager
    def _own_process(self, initial_state: Any) -> Generator[ToolSession]:
        child = self._open_child(initial_state)
        lost = False

        def run(call: ToolCall) -> ToolResult:
            nonlocal lost
            if refusal := refused(call, self._names):
                return refusal
            if lost:
                return failed(call, "the tools' state was lost when an earlier call was stopped")
            try:
                result, usable = run_or_explain(child.channel, call, self._timeout_s)
            except WorkerLost as gone:
                raise ToolBackendError(f"the process behind {call.name!r} died: {gone}") from gone
            lost = not usable
            if lost:
                child.end()
            return result

        def ask(question: Question) -> Any:
            # A student that has broken its environment has reached no state, and nothing of worth.
            if lost:
                return None if question == "state" else 0.0
            return child.ask(question, self._timeout_s)

        try:
            yield ToolSession(
                run=run,
                state=(lambda: ask("state")) if "state" in self._questions else None,
                score=(lambda: ask("score")) if "score" in self._questions else None,
            )
        finally:
            child.end()

    def close(self) -> None:
        """Kill all workers."""
        if self.stateful:
            self._forking.kill()
            return
        for _ in range(self._workers):
            if (worker := self._idle.get()) is not None:
                worker.kill()
