"""Notices signals and silent ranks while the main thread waits for something that may never come."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path


class SignalWatch:
    """Acts on signals in a thread, which runs where the main thread hangs outside Python.

    Python calls a signal's handler in the main thread, between two of its instructions: a main
    thread that waits in a collective of PyTorch calls none.

    Args:
        signals: Which ones.
        act: Called in the thread, with the signal.
    """

    def __init__(self, signals: Collection[int], act: Callable[[int], None]) -> None:
        self._signals = frozenset(signals)
        self._act = act
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._run, name="signals", daemon=True).start()

    def close(self) -> None:
        """Leave signals alone again. Called in the main thread."""
        signal.set_wakeup_fd(self._before)
        os.close(self._write)  # the thread reads the end

    def _run(self) -> None:
        while numbers := os.read(self._read, 64):
            for number in numbers:
                if number in self._signals:
                    self._act(number)
        os.close(self._read)


class RankWatch:
    """Tells which rank has given no sign of life for a while.

    Every rank counts in a file of its own, in a thread. A rank whose count stands still was stopped
    or killed, or its machine is gone. Clocks are never compared, only counts.

    Args:
        folder: That all ranks see.
        rank: This one.
        world_size: Number of ranks.
        silent_for_s: After how many seconds a rank counts as silent.
        act: Called in the thread, once, with the silent rank.
    """

    def __init__(
        self, folder: Path, *, rank: int, world_size: int, silent_for_s: float, act: Callable[[int], None]
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._others = [other for other in range(world_size) if other != rank]
        self._silent_for_s = silent_for_s
        self._act = act
        self._ended = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._run, name="ranks", daemon=True).start()

    def close(self) -> None:
        """End this rank's part; the others no longer wait for it."""
        self._ended.set()
        self._say("ended")

    def _run(self) -> None:
        count = 0
        heard: dict[int, tuple[str, float]] = {rank: ("", time.monotonic()) for rank in self._others}
        looked = time.monotonic()
        while not self._ended.wait(min(1.0, self._silent_for_s / 10)):
            count += 1
            self._say(str(count))
            now = time.monotonic()
            if now - looked > self._silent_for_s / 2:  # it was this process that slept
                heard = {rank: (said, now) for rank, (said, _) in heard.items()}
            looked = now
            for rank in self._others:
                said = self._hear(rank)
                if said in (heard[rank][0], "") and said != "ended":
                    if now - heard[rank][1] > self._silent_for_s:
                        self._act(rank)
                        return
                else:
                    heard[rank] = (said, now)

    def _say(self, what: str) -> None:
        file = self._folder / f"rank{self._rank}"
        partial = file.with_suffix(".new")
        try:
            partial.write_text(what)
            os.replace(partial, file)
        except OSError:  # a full disk is no sign of death
            pass

    def _hear(self, rank: int) -> str:
        try:
            return (self._folder / f"rank{rank}").read_text()
        except OSError:
            return ""
