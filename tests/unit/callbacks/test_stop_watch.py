from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from mentor_pl.callbacks.stop_watch import RankWatch, SignalWatch


def test_a_signal_is_noticed_while_the_main_thread_runs_no_handler() -> None:
    seen: list[int] = []
    noticed = threading.Event()
    before = signal.signal(signal.SIGHUP, lambda number, frame: None)
    watch = SignalWatch({signal.SIGHUP}, lambda number: (seen.append(number), noticed.set()))
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        assert noticed.wait(10)
        assert seen == [signal.SIGHUP]
    finally:
        watch.close()
        signal.signal(signal.SIGHUP, before)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("left", [None, "17"])
def test_a_rank_that_says_nothing_or_nothing_new_is_named(tmp_path: Path, left: str | None) -> None:
    if left is not None:
        (tmp_path / "rank1").write_text(left)
    silent: list[int] = []
    named = threading.Event()
    watch = RankWatch(
        tmp_path, rank=0, world_size=2, silent_for_s=0.3, act=lambda rank: (silent.append(rank), named.set())
    )
    assert named.wait(30)
    watch.close()
    assert silent == [1]


def test_ranks_that_count_or_have_ended_are_not_silent(tmp_path: Path) -> None:
    silent: list[int] = []
    watches = [RankWatch(tmp_path, rank=rank, world_size=3, silent_for_s=20.0, act=silent.append) for rank in range(2)]
    (tmp_path / "rank2").write_text("ended")
    threading.Event().wait(0.3)
    for watch in watches:
        watch.close()
    assert silent == []
    assert (tmp_path / "rank0").read_text() == "ended"
