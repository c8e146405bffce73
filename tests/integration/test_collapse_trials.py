"""The guard against collapse on runs that do collapse: reported before the success that is logged has fallen."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.collapse import TRIALS
from tests.integration.distributed.runs import CONFIGS, environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

COMMANDS = Path(__file__).parent / "distributed" / "commands.py"
UPDATES = {"learning rate 20 times too high": 2, "a wrong judge": 4, "a bonus for any call": 8}
LEFT_OUT = (
    *("--summary.enabled=false", "--export.enabled=false", "--recorder.every_n_rounds=0"),
    *("--checkpoint.save_last=false", "--checkpoint.save_top_k=0", "--trainer.limit_val_batches=0"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trials")
    base = ["fit", "--config", str(CONFIGS / "mentor.yaml"), *LEFT_OUT]
    commands = [
        [*base, TRIALS[name][0], f"--trainer.max_steps={updates}", f"--run_dir={folder / name}"]
        for name, updates in UPDATES.items()
    ]
    file = folder / "commands.json"
    file.write_text(json.dumps(commands))
    done = subprocess.run([sys.executable, str(COMMANDS), str(file)], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return folder


def first_report(folder: Path) -> tuple[int, str]:
    row = json.loads((folder / "collapse.jsonl").read_text().splitlines()[0])
    return row["step"], row["sign"]


def success(folder: Path) -> list[float]:
    with open(folder / "metrics.csv") as file:
        return [float(row["train/score/correct"]) for row in csv.DictReader(file)]


def test_a_learning_rate_that_is_too_high_is_reported_after_its_first_update(folder: Path) -> None:
    trial = folder / "learning rate 20 times too high"
    assert first_report(trial) == (1, "too long a step")
    before, after = success(trial)
    assert after < 0.5 * before  # what the next rollout shows


@pytest.mark.parametrize("name", ["a wrong judge", "a bonus for any call"])
def test_a_reward_for_something_else_is_reported_by_what_it_pays_for(folder: Path, name: str) -> None:
    step, sign = first_report(folder / name)
    assert sign == "reward against success"
    assert step <= 6
