"""A rollout that goes on in a thread while the trainer trains."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any

from mentor_pl.rollout.runner import RolloutStopped


class RolloutAhead:
    """At most one rollout at a time, in a thread of its own.

    Args:
        stop_if_asked: Ends the run where any rank was asked to; called by all ranks together.
    """

    def __init__(self, stop_if_asked: Callable[[], None]) -> None:
        self._stop_if_asked = stop_if_asked
        self._thread: ThreadPoolExecutor | None = None
        self._rollout: Future[Any] | None = None
        self._abandoned = Event()

    @property
    def begun(self) -> bool:
        """Whether there is a rollout whose result was not taken yet."""
        return self._rollout is not None

    def is_abandoned(self) -> bool:
        """Tell whether nobody wants the present rollout any more."""
        return self._abandoned.is_set()

    def begin(self, sample: Callable[[], Any]) -> None:
        """Start a rollout.

        Args:
            sample: Returns its result, or raises `RolloutStopped`. It uses no collectives, and
                nothing that the trainer changes.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollout")
        self._rollout = self._thread.submit(sample)

    def wait(self) -> None:
        """Wait for the end of the rollout, which keeps its result."""
        wait([] if self._rollout is None else [self._rollout])

    def finish(self) -> Any:
        """Wait for the rollout and take its result, or raise its error. All ranks call this together.

        Raises:
            SIGTERMException: Any rank was asked to end.
        """
        if self._rollout is None:
            raise AssertionError("no rollout was begun")
        result = None
        try:
            result = self._rollout.result()
        except RolloutStopped:
            pass  # the other ranks hear of it below
        self._rollout = None
        self._stop_if_asked()
        assert result is not None
        return result

    def abandon(self) -> None:
        """Give the rollout up and wait for its end."""
        if self._rollout is None:
            return
        self._abandoned.set()
        self._rollout.exception()
        self._abandoned.clear()
        self._rollout = None

    def close(self) -> None:
        """Give the rollout up and end the thread; a later `begin` starts another one."""
        self.abandon()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
