"""SIGTERM in the middle of a rollout: it is given up at once on every rank, and the checkpoint goes on where the last round ended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mentor_pl.training.checkpoint_io import AtomicCheckpointIO
from tests.integration.distributed.runs import DDP, FSDP, Runs, environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

# The first rounds' tools answer; once the file "stuck" exists, each call takes far longer than the test may.
STUCK_TOOLS = """
import functools, inspect, pathlib, time
from mentor_pl.tools import arithmetic

HERE = pathlib.Path(__file__).parent

def hanging(function):
    @functools.wraps(function)
    def call(*arguments, **named):
        (HERE / "called").touch()
        while (HERE / "stuck").exists():
            time.sleep(0.1)
        return function(*arguments, **named)
    return call

__all__ = [name for name, tool in vars(arithmetic).items() if inspect.isfunction(tool) and not name.startswith("_")]
for name in __all__:
    globals()[name] = hanging(getattr(arithmetic, name))
"""

NOTED_ENGINE = """
import pathlib
from mentor_pl.engines.auto import AutoEngine

class NotedEngine(AutoEngine):
    def close(self):
        super().close()
        (pathlib.Path(__file__).parent / "closed").touch()
"""


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)


@pytest.mark.parametrize("strategy", [(), DDP, FSDP], ids=["one process", "ddp", "fsdp"])
def test_a_rollout_stuck_in_its_tools_is_given_up(tmp_path: Path, strategy: tuple[str, ...]) -> None:
    runs = Runs(tmp_path)
    (tmp_path / "stuck_tools.py").write_text(STUCK_TOOLS)
    (tmp_path / "noted_engine.py").write_text(NOTED_ENGINE)
    tools = [{"class_path": "PythonFunctions", "init_args": {"module": "stuck_tools", "timeout_s": 3600.0}}]
    # Far longer than giving the rollout up takes, even on a busy machine: a thread that ends the run closes no engine.
    patient = {"class_path": "mentor_pl.callbacks.graceful_stop.GracefulStop", "init_args": {"grace_s": 120.0}}
    parts = (
        *("--data.tools", json.dumps(tools), "--model.engine", "noted_engine.NotedEngine"),
        *("--trainer.callbacks", json.dumps([patient])),
    )
    command = runs.command("run", *strategy, *parts, "--trainer.max_steps", "50")
    process = subprocess.Popen(
        [sys.executable, "-m", "mentor_pl", *command],
        env={**environment(), "PYTHONPATH": f"{environment()['PYTHONPATH']}:{tmp_path}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(runs.checkpoint("run", 1), process)
        (tmp_path / "stuck").touch()
        (tmp_path / "called").unlink(missing_ok=True)
        wait_for(tmp_path / "called", process)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert (tmp_path / "closed").exists()  # the engine's weights may lie on disk
    saved = AtomicCheckpointIO().load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert saved["global_step"] >= 1
    assert saved["mentor_pl_run"]["rounds_done"] == saved["global_step"]
