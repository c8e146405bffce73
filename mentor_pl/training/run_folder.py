"""A run's folder: one process at a time, and a log that a resumed run continues."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger

from mentor_pl.errors import ConfigError
from mentor_pl.training.checkpoint_file import read_checkpoint
from mentor_pl.training.run_position import RunPosition

_EARLIER = ".metrics.earlier.csv"
_TRACES = ("metrics.csv", _EARLIER, "trajectories", "checkpoints", "summary.json", "student")
"""Files and folders that show that training began here."""
_OF_A_RUN = (*_TRACES, "metrics.*.csv", "finished.json", "config.yaml", ".student.*", "hpc_ckpt_*.ckpt")


class RunFolder:
    """The folder of a run, used by one process.

    Args:
        path: The folder; made where it is missing.

    Raises:
        ConfigError: It cannot be written to, or another process uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Not flock: the tools' processes would inherit it, and hold it when this one is killed.
            self._lock = open(path / ".lock", "a+", encoding="utf-8")
        except OSError as failure:
            raise ConfigError(
                f"--run_dir: the folder {path} cannot be written to ({failure.strerror}); give another one"
            ) from None
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            self._lock.close()
            raise ConfigError(
                f"--run_dir: {path} is used by {holder}; wait for its end, or give another folder"
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.truncate(0)
        self._lock.close()

    # The end ----------------------------------------------------------------------------------------------------

    @property
    def finished_step(self) -> int | None:
        """Optimiser steps behind the student that the last run in this folder ended with, if it did."""
        try:
            return int(json.loads((self.path / "finished.json").read_text())["steps"])
        except (OSError, ValueError, KeyError):
            return None

    def note_finished(self, step: int) -> None:
        """Note that the run has ended, with all that it leaves."""
        partial = self.path / f".finished.{os.getpid()}"
        partial.write_text(json.dumps({"steps": step}) + "\n")
        os.replace(partial, self.path / "finished.json")

    # Resuming ---------------------------------------------------------------------------------------------------

    def begin_anew(self) -> Path | None:
        """Move what an earlier run left in this folder out of the way; two runs would mix.

        Returns:
            Where it is now, a folder in this one; None where there was nothing.
        """
        if not any((self.path / name).exists() for name in _TRACES):
            return None
        number = 1
        while (earlier := self.path / f"earlier-{number}").exists():
            number += 1
        earlier.mkdir()
        for name in _OF_A_RUN:
            for entry in self.path.glob(name):
                entry.rename(earlier / entry.name)
        return earlier

    def go_back_to(self, position: RunPosition, *, checkpoint: Path, loggers: Sequence[Any]) -> None:
        """Remove what was done behind a checkpoint, and will be done again.

        Args:
            position: Of the checkpoint.
            checkpoint: The file; where it lies in this folder, newer ones beside it are removed.
            loggers: Of the Trainer; a CSV logger continues `metrics.csv`.
        """
        (self.path / "finished.json").unlink(missing_ok=True)
        for file in (self.path / "trajectories").glob("train.rank*.jsonl"):
            _cut_trajectories(file, position.step)
        for left in self.path.glob(".student.*"):  # of an export that was killed
            shutil.rmtree(left, ignore_errors=True)
        if self.path.resolve() in checkpoint.resolve().parents:
            _remove_newer(checkpoint, position.step)
        for logger in loggers:
            if isinstance(logger, CSVLogger) and Path(logger.log_dir).resolve() == self.path.resolve():
                self._continue_log(logger, position)

    def _continue_log(self, logger: CSVLogger, position: RunPosition) -> None:
        log, earlier = self.path / "metrics.csv", self.path / _EARLIER
        if not earlier.exists():  # else a run was killed right here
            if not log.exists():
                return
            log.rename(earlier)
        with open(earlier, newline="", encoding="utf-8") as file:
            rows = list(_kept(csv.DictReader(file), position))
        for row in rows:
            step = int(row.pop("step"))
            logger.log_metrics({name: _number(text) for name, text in row.items()}, step)
        logger.save()
        earlier.unlink()


def requeued_checkpoint(folder: Path, last: Path) -> Path | None:
    """Return the newest checkpoint of a SLURM job that was started again; None for any other start.

    Args:
        folder: Of the run. Lightning's requeueing leaves `hpc_ckpt_N.ckpt` there.
        last: The run's `last.ckpt`, which a job that lost its machine goes on from.
    """
    if not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    found = [file for file in (*folder.glob("hpc_ckpt_*.ckpt"), last) if file.exists()]
    return max(found, key=lambda file: file.stat().st_mtime_ns, default=None)


def _kept(rows: Iterator[dict[str, Any]] | csv.DictReader[str], position: RunPosition) -> Iterator[dict[str, str]]:
    """Leave out what a run that goes on at this position logs again.

    Each step's row is followed by those of an evaluation after it.
    """
    last_step_is_logged = False
    for whole in rows:
        row = {name: text for name, text in whole.items() if name and text}
        if not (row.get("step") or "").isdigit():  # cut off by a kill
            continue
        step = int(row["step"])
        if "train/loss" in row:
            if step >= position.step:
                return
            last_step_is_logged = step == position.step - 1
            yield row
        elif step < max(position.step, 1) and (position.validated or not last_step_is_logged):
            yield row


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _cut_trajectories(file: Path, step: int) -> None:
    """Cut a file before its first row of this step or a later one; rows come in order of step."""
    with open(file, "r+b") as rows:
        end = 0
        for line in rows:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] >= step:
                    break
            except (ValueError, KeyError):
                break
            end += len(line)
        rows.truncate(end)


def _remove_newer(checkpoint: Path, step: int) -> None:
    """Remove checkpoints of later steps beside this one: the run makes them again, and not the same ones."""
    for file in checkpoint.parent.glob("*.ckpt"):
        if file.resolve() == checkpoint.resolve():
            continue
        with contextlib.suppress(ConfigError):  # a damaged one tells no step
            if read_checkpoint(file, check_digest=False)["global_step"] > step:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
