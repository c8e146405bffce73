"""One `mentor-pl fit` as processes that can be killed at chosen moments.

Its processes are forked from this one, which has imported everything: importing takes longer than all the rest of so small a run.
Functions are wrapped to tell when they begin and end; nothing else is changed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop

from mentor_pl.callbacks.export import ExportStudent
from mentor_pl.callbacks.summary import RunSummary
from mentor_pl.cli import training
from mentor_pl.cli.main import main as mentor_pl_main
from mentor_pl.plugins import find_plugins
from mentor_pl.tools.toolbox_session import ToolBoxSession
from mentor_pl.training.checkpoint_io import AtomicCheckpointIO
from mentor_pl.training.module import MentorModule
from mentor_pl.training.stream import RolloutStream

_WRAPPED: dict[str, list[tuple[Any, str]]] = {
    "first evaluation": [(RunSummary, "on_train_start")],
    "rollout": [(RolloutStream, "roll_out")],
    "tools": [(ToolBoxSession, "run")],
    "step": [(MentorModule, "training_step"), (torch.optim.AdamW, "step")],
    "save": [(AtomicCheckpointIO, "save_checkpoint")],
    "validation": [(_EvaluationLoop, "run")],
    "last evaluation": [(RunSummary, "on_train_end")],
    "export": [(ExportStudent, "on_train_end")],
}
PHASES = ("import", *_WRAPPED)
_LONGEST_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What is done to a run.

    Attributes:
        signal: Sent to the chosen ranks.
        phase: One of `PHASES`.
        occurrence: Which time the phase begins, from 0.
        delay_s: Seconds after that; the phase's end comes first where it is shorter. For the import: seconds of processor time.
        ranks: Who gets the signal.
    """

    signal: signal.Signals
    phase: str
    occurrence: int
    delay_s: float
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the processes of a run ended.

    Attributes:
        statuses: Exit status of each rank, negative for a signal.
        killed: Whether the kill's moment came.
        ended_s: Seconds from the kill to the end of the last rank.
        left_alone: Ranks that had to be ended by hand, a minute and a half after the others.
        durations_s: Seconds of each phase, every time that it ran to its end.
    """

    statuses: tuple[int, ...]
    killed: bool
    ended_s: float
    left_alone: tuple[int, ...]
    durations_s: dict[str, list[float]]


def prepare() -> None:
    """Import all that a run imports."""
    find_plugins()
    assert training.MentorCLI


def run(arguments: Sequence[str], *, ranks: int, folder: Path, kill: Kill | None) -> Ended:
    """Run `mentor-pl` to its end, or to a kill's.

    Args:
        arguments: Of `mentor-pl`.
        ranks: Number of processes, as torchrun would start them.
        folder: Where it runs; its words are in `log.txt` there.
        kill: What is done to it.
    """
    read, write = os.pipe()
    if kill is not None and kill.phase == "import":
        pids = _started_anew(arguments, folder)
    else:
        environments = _torchrun(ranks) if ranks > 1 else [{}]
        pids = [
            _forked(arguments, folder, environment, write, marked=rank == 0)
            for rank, environment in enumerate(environments)
        ]
    os.close(write)
    statuses: dict[int, int] = {}
    durations: dict[str, list[float]] = {}
    if kill is not None and kill.phase == "import":
        killed_at = _import_watched(pids, kill)
    else:
        killed_at = _watched(read, pids, kill, durations)
    os.close(read)
    left = _wait(pids, statuses, 90.0 if killed_at else _LONGEST_S)
    return Ended(
        statuses=tuple(statuses[pid] for pid in pids),
        killed=killed_at is not None,
        ended_s=round(time.monotonic() - killed_at, 2) if killed_at else 0.0,
        left_alone=tuple(pids.index(pid) for pid in left),
        durations_s=durations,
    )


def _torchrun(ranks: int) -> list[dict[str, str]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "kills",
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _started_anew(arguments: Sequence[str], folder: Path) -> list[int]:
    with open(folder / "log.txt", "ab") as log:
        command = [sys.executable, "-m", "mentor_pl", *arguments]
        return [subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True).pid]


def _forked(arguments: Sequence[str], folder: Path, environment: dict[str, str], marks: int, *, marked: bool) -> int:
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.setsid()
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(environment)
        os.chdir(folder)
        if marked:
            _wrap(marks)
        else:
            os.close(marks)
        mentor_pl_main(list(arguments))
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as failure:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wrap(marks: int) -> None:
    inside: list[str] = []

    def told(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*positional: Any, **named: Any) -> Any:
            if phase == "validation" and inside:  # it is the first or last evaluation's
                return function(*positional, **named)
            outer = phase.endswith("evaluation")
            if outer:
                inside.append(phase)
            _tell(marks, f"+{phase}")
            try:
                return function(*positional, **named)
            finally:
                _tell(marks, f"-{phase}")
                if outer:
                    inside.pop()

        return call

    for phase, places in _WRAPPED.items():
        for owner, name in places:
            setattr(owner, name, told(phase, getattr(owner, name)))


def _tell(marks: int, what: str) -> None:
    with contextlib.suppress(OSError):  # after the kill nobody listens
        os.write(marks, f"{what}\n".encode())


def _lines(read: int, until: float | None) -> Iterator[str | None]:
    """Yield each mark; None once where `until` comes first."""
    rest = b""
    while True:
        patience_s = None if until is None else max(0.0, until - time.monotonic())
        if not select.select([read], [], [], patience_s)[0]:
            yield None
            return
        if not (part := os.read(read, 1 << 16)):
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)


def _watched(read: int, pids: list[int], kill: Kill | None, durations: dict[str, list[float]]) -> float | None:
    """Follow a run by its marks; send the kill when its moment comes, and return when that was."""
    begun: dict[str, float] = {}
    seen = 0
    for mark in _lines(read, time.monotonic() + _LONGEST_S):
        if mark is None:
            return None
        phase, now = mark[1:], time.monotonic()
        if mark[0] == "-":
            durations.setdefault(phase, []).append(round(now - begun[phase], 4))
            continue
        begun[phase] = now
        if kill is None or phase != kill.phase:
            continue
        seen += 1
        if seen > kill.occurrence:
            for further in _lines(read, now + kill.delay_s):
                if further in (f"-{phase}", None):
                    break
            return _send(pids, kill)
    return None


def _import_watched(pids: list[int], kill: Kill) -> float | None:
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    while True:
        try:
            fields = Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] == "Z":
            return None
        if (int(fields[11]) + int(fields[12])) / ticks_per_s >= kill.delay_s:
            return _send(pids, kill)
        time.sleep(0.01)


def _send(pids: list[int], kill: Kill) -> float:
    for rank in kill.ranks:
        if rank < len(pids):
            os.kill(pids[rank], kill.signal)
    return time.monotonic()


def _wait(pids: list[int], statuses: dict[int, int], patience_s: float) -> list[int]:
    """Wait for every process; end those that stay, and return them."""
    deadline = time.monotonic() + patience_s
    left: list[int] = []
    while len(statuses) < len(pids):
        for pid in pids:
            if pid in statuses:
                continue
            if time.monotonic() > deadline and pid not in left:
                left.append(pid)
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                statuses[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return left
