"""Threads for calls that may never come back."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mentor_pl.errors import ConfigError

Result = TypeVar("Result")

MAX_WORKERS = 1024
"""More calls at once than any machine serves; what is made for each worker would fill the memory first."""


def check_workers(owner: str, workers: int) -> None:
    """Refuse a number of workers that cannot be.

    Args:
        owner: The class that takes it.
        workers: How many calls are to run at once.

    Raises:
        ConfigError: It is not from 1 to `MAX_WORKERS`.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise ConfigError(f"{owner}.workers is {workers}; it must be above 0 and at most {MAX_WORKERS}")


class DaemonThreads:
    """Runs functions in threads that no end of the process waits for; `concurrent.futures` would join them.

    Args:
        name: Of the threads.
        most: How many run at once; more wait. None for any number.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name, self._most = name, most
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Run a function as soon as a thread is free."""
        future: Future[Result] = Future()
        with self._lock:
            self._unfinished += 1
            start = self._unfinished > self._threads and (self._most is None or self._threads < self._most)
            self._threads += start
        self._work.put((future, function))
        if start:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        return future

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            future, function = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as failure:
                    future.set_exception(failure)
            del item, future, function  # an idle thread keeps nothing alive
            with self._lock:
                self._unfinished -= 1

    def close(self) -> None:
        """Let threads end that have nothing to do; what waits is given up, what runs is not waited for."""
        while True:
            try:
                item = self._work.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                item[0].cancel()
        with self._lock:
            threads = self._threads
        for _ in range(threads):
            self._work.put(None)
