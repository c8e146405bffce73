"""A rank that fails takes the run down, and rank 0 saves it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mentor_pl.training.checkpoint_io import AtomicCheckpointIO
from tests.integration.distributed.runs import DDP, Runs, environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

DEFECTIVE = """
import os
from mentor_pl.rewards.correct import Correct

class Defective(Correct):
    calls = 0

    def score(self, trajectory, references):
        Defective.calls += 1
        if Defective.calls > 8 and os.environ.get("LOCAL_RANK") == os.environ["FAILING_RANK"]:
            raise ZeroDivisionError("a defect")
        return super().score(trajectory, references)
"""


@pytest.mark.parametrize("rank", ["0", "1"])
def test_rank_0_saves_after_an_error_of_any_rank(tmp_path: Path, rank: str) -> None:
    runs = Runs(tmp_path)
    (tmp_path / "defective.py").write_text(DEFECTIVE)
    reward = {"terms": [{"name": "correct", "weight": 1.0, "component": {"class_path": "defective.Defective"}}]}
    command = runs.command(
        "run",
        *(*DDP, "--data.reward", json.dumps(reward), "--trainer.max_steps", "50"),
        *("--checkpoint.every_n_train_steps", "100", "--checkpoint.save_top_k", "0"),
    )
    ended = subprocess.run(
        [sys.executable, "-m", "mentor_pl", *command],
        env={**environment(), "PYTHONPATH": f"{environment()['PYTHONPATH']}:{tmp_path}", "FAILING_RANK": rank},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert ended.returncode != 0
    assert "raised ZeroDivisionError" in ended.stdout
    saved = AtomicCheckpointIO().load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert saved["global_step"] >= 1, ended.stdout
    assert saved["mentor_pl_run"]["rounds_done"] == saved["global_step"]
