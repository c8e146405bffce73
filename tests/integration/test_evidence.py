"""`python -m benchmarks.evidence` survives kills: its numbers are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]  # eight processes after one another

ROOT = Path(__file__).parents[2]
KILLED_AT = (
    ("start/0/evaluation/config.yaml", 1),
    ("mentor/0/checkpoints/last.ckpt", 0),
    ("mentor/0/metrics.csv", 5),
    ("mentor/0/finished.json", 1),
    ("mentor/0/evaluation/config.yaml", 1),
)
"""The benchmark is killed as soon as a file is there and has so many lines, one after another."""


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.evidence_tiny", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def results(folder: Path) -> dict[str, Any]:
    return {file.name: json.loads(file.read_text()) for file in sorted((folder / "results").glob("*.json"))}


def is_there(file: Path, lines: int) -> bool:
    return file.exists() and (not lines or len(file.read_text().splitlines()) >= lines)


def kill_once_there(folder: Path, file: str, lines: int) -> bool:
    """Start the benchmark, and kill it, and it alone; False where it had ended."""
    running = start(folder)
    while not is_there(folder / "runs" / "tiny" / file, lines):
        if running.poll() is not None:
            assert running.stdout is not None
            pytest.fail(f"ended before {file} was there: {running.stdout.read().decode()}")
        time.sleep(0.02)
    alive = running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.wait()
    return alive


def test_interrupted_five_times_it_ends_with_the_same_numbers(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "undisturbed")
    said, _ = undisturbed.communicate()
    assert undisturbed.returncode == 0, said.decode()

    killed = tmp_path / "killed"
    assert [kill_once_there(killed, *place) for place in KILLED_AT] == [True] * 5
    last = start(killed)
    said, _ = last.communicate()
    assert last.returncode == 0, said.decode()

    expected = results(tmp_path / "undisturbed")
    assert set(expected) == {"tiny.json", "tiny_mentor_0.json", "tiny_splits.json", "tiny_start_0.json"}
    assert len(expected["tiny_mentor_0.json"]["training"]["train/loss"]) == 6
    assert results(killed) == expected
