"""The tools of one trajectory: runs its calls, side by side or in order, and says what a failure is called."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

from mentor_pl.errors import MentorError, PluginError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused, shown
from mentor_pl.tools.threads import DaemonThreads

_ATTEMPTS = 2


class ToolBoxSession:
    """Runs the calls of one trajectory. What a caller gets wrong never raises.

    A malformed, unknown or not offered call is an error that runs nothing. Failed infrastructure,
    tried twice, and a call that keeps no time limit are results with that status. A backend that
    breaks its contract raises `PluginError`.

    Args:
        reference: The prompt, or None.
        owners: Spec and backend of each tool that may be called.
        backends: All backends, in order.
        final_tools: Names of tools whose call ends the trajectory.
        call_timeout_s: Seconds that any call may take.
        threads: Where calls run.
        stack: Closes the backends' sessions.
    """

    def __init__(
        self,
        *,
        reference: Reference | None,
        owners: Mapping[str, tuple[ToolSpec, ToolBackend]],
        backends: Sequence[ToolBackend],
        final_tools: frozenset[str],
        call_timeout_s: float,
        threads: DaemonThreads,
        stack: ExitStack,
    ) -> None:
        self._reference, self._owners, self._backends = reference, owners, backends
        self._final_tools, self._call_timeout_s = final_tools, call_timeout_s
        self._threads, self._stack = threads, stack
        self._open: dict[int, ToolSession] = {}
        self._opening = threading.Lock()

    def __call__(self, call: ToolCall) -> ToolResult:
        """Run one call."""
        return self.run([call])[0]

    def run(self, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        """Run the calls of one turn; those of `parallel` backends side by side, the others in order.

        Raises:
            PluginError: A backend raised what it may not, or returned something that is no result.
        """
        started = {index: self._start(call) for index, call in enumerate(calls) if self._is_parallel(call)}
        results: dict[int, ToolResult] = {}
        for index, call in enumerate(calls):
            if index not in started:
                results[index] = refused(call, self._owners) or self._wait(call, *self._start(call))
        for index, (future, deadline) in started.items():
            results[index] = self._wait(calls[index], future, deadline)
        return tuple(self._ended(calls[index], results[index]) for index in range(len(calls)))

    def is_slow(self, call: ToolCall) -> bool:
        """Say whether a call waits on something remote; False for an unknown tool, which never runs."""
        return call.name in self._owners and self._owners[call.name][1].slow

    def may_end(self, calls: Sequence[ToolCall]) -> bool:
        """Say whether the calls of a turn can end the trajectory: one is a final tool's, or all are declared only."""
        known = [self._owners[call.name][1] for call in calls if call.name in self._owners]
        declared = bool(calls) and len(known) == len(calls) and all(backend.final for backend in known)
        return declared or any(call.name in self._final_tools for call in calls)

    def state(self) -> Any:
        """Return the final state as JSON: the one that a backend tells, or those of several by class name."""
        states = {
            type(backend).__name__: self._told(backend, "state", session.state, _checked_state)
            for backend, session in self._telling()
            if session.state is not None
        }
        return next(iter(states.values()), None) if len(states) < 2 else states

    def score(self) -> float | None:
        """Return the environment's own score in [0, 1], the lowest of several; None where no backend gives one."""
        scores = [
            self._told(backend, "score", session.score, _checked_score)
            for backend, session in self._telling()
            if session.score is not None
        ]
        return min(scores, default=None)

    def _telling(self) -> list[tuple[ToolBackend, ToolSession]]:
        return [(backend, self._opened(backend)) for backend in self._backends if backend.tells_state]

    def _is_parallel(self, call: ToolCall) -> bool:
        return refused(call, self._owners) is None and self._owners[call.name][1].parallel

    def _ended(self, call: ToolCall, result: ToolResult) -> ToolResult:
        final = result.final or (result.ok and call.name in self._final_tools)
        return result if result.final == final else replace(result, final=final)

    def _start(self, call: ToolCall) -> tuple[Future[ToolResult], float]:
        backend = self._owners[call.name][1]
        attempt = self._threads.submit(lambda: _persevere(call, lambda: self._call(backend, call)))
        return attempt, time.monotonic() + self._call_timeout_s

    def _wait(self, call: ToolCall, attempt: Future[ToolResult], deadline: float) -> ToolResult:
        try:
            return attempt.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            text = f"{call.name} did not end within {self._call_timeout_s:g} s, the limit of any call"
            return failed(call, text, status=ToolStatus.INFRASTRUCTURE, duration_s=self._call_timeout_s)

    def _call(self, backend: ToolBackend, call: ToolCall) -> ToolResult:
        def run() -> ToolResult:
            return _checked_result(self._opened(backend)(call), call)

        return _keeping_contract(f"{type(backend).__name__}, asked to run {call.name!r},", run)

    def _opened(self, backend: ToolBackend) -> ToolSession:
        with self._opening:
            if id(backend) not in self._open:
                session = cast("Any", self._stack.enter_context(backend.session(self._reference)))
                if not isinstance(session, ToolSession):
                    raise PluginError(
                        f"session() of {type(backend).__name__} gave {session!r:.100}; it must give a ToolSession"
                    )
                self._open[id(backend)] = session
            return self._open[id(backend)]

    def _told(self, backend: ToolBackend, what: str, ask: Callable[[], Any], check: Callable[[Any], Any]) -> Any:
        where = f"{what} of a session of {type(backend).__name__}"
        attempt = self._threads.submit(lambda: _keeping_contract(where, lambda: check(ask())))
        try:
            return attempt.result(self._call_timeout_s)
        except TimeoutError:
            raise ToolBackendError(f"{where} did not end within {self._call_timeout_s:g} s") from None


def _keeping_contract(where: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except (MentorError, RecursionError):
        raise
    except Exception as failure:
        raise PluginError(
            f"{where} raised {type(failure).__name__}: {failure}; what a caller gets wrong is a ToolResult with its "
            "status, failed infrastructure a ToolBackendError"
        ) from failure


def _checked_result(result: Any, call: ToolCall) -> ToolResult:
    if not isinstance(result, ToolResult):
        raise PluginError(f"the tool {call.name!r} answered with {result!r:.100}; a session returns a ToolResult")
    wrong = (
        f"call_id {result.call_id!r} for the call {call.call_id!r}"
        if result.call_id != call.call_id
        else f"content {cast('Any', result.content)!r:.100}; it must be a text"
        if not isinstance(cast("Any", result.content), str)
        else f"status {cast('Any', result.status)!r}; it must be a ToolStatus"
        if not isinstance(cast("Any", result.status), ToolStatus)
        else f"duration_s {result.duration_s!r}; it must be a finite number that is not negative"
        if not _is_number(result.duration_s) or not 0.0 <= result.duration_s < math.inf
        else None
    )
    if wrong is not None:
        raise PluginError(f"a result of the tool {call.name!r} has the {wrong}")
    if (content := shown(result.content)) != result.content:
        return replace(result, content=content, output_chars=max(result.output_chars, len(result.content)))
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _checked_state(state: Any) -> Any:
    try:
        return json.loads(json.dumps(state, allow_nan=False))  # also a copy that nobody changes any more
    except (TypeError, ValueError) as unfit:
        raise PluginError(f"a session's state {state!r:.100} is not JSON: {unfit}") from unfit


def _checked_score(score: Any) -> float:
    if not _is_number(score) or not 0.0 <= score <= 1.0:
        raise PluginError(f"a session's score is {score!r:.100}; it must be a number in [0, 1]")
    return float(score)


def _persevere(call: ToolCall, attempt: Callable[[], ToolResult]) -> ToolResult:
    start = time.perf_counter()
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            return attempt()
        except ToolBackendError as failure:
            reason = str(failure)
        except RecursionError:  # JSON that could just be read may be too deep to be written again
            return failed(call, f"{call.name}: the arguments are nested too deeply")
    duration_s = time.perf_counter() - start
    return failed(
        call, f"{call.name} is unavailable: {reason}", status=ToolStatus.INFRASTRUCTURE, duration_s=duration_s
    )
