"""Runs of `mentor-pl` that can be killed at any time: what is done is not done again, what was begun goes on."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def fit(folder: Path, configs: Sequence[Path], arguments: Sequence[str]) -> None:
    """Train, or go on from the newest checkpoint. A run that has ended is left alone."""
    if (folder / "finished.json").exists():
        return
    checkpoint = folder / "checkpoints" / "last.ckpt"
    resumed = [f"--ckpt_path={checkpoint}"] if checkpoint.exists() else []
    _mentor_pl("fit", folder, [*_chosen(configs), f"--run_dir={folder}", *arguments, *resumed])


def predict(folder: Path, configs: Sequence[Path], arguments: Sequence[str]) -> Path:
    """Let a student try every split, from the beginning where an earlier try was cut off.

    Returns:
        The file of its trajectories.
    """
    trajectories = folder / "trajectories.jsonl"
    if not trajectories.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _mentor_pl("predict", folder, [*_chosen(configs), f"--run_dir={folder}", *arguments])
        (folder / "trajectories" / "predict.rank0.jsonl").replace(trajectories)
    return trajectories


def _chosen(configs: Sequence[Path]) -> list[str]:
    return [f"--config={config}" for config in configs]


def _mentor_pl(command: str, folder: Path, arguments: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        done = subprocess.run(
            [sys.executable, "-m", "mentor_pl", command, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
            preexec_fn=_end_with_parent,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"mentor-pl {command} ended with status {done.returncode}; its output is in {folder}/log.txt")


def _end_with_parent() -> None:
    # A benchmark that is killed leaves no run behind that would hold its folder when the benchmark is started again.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
