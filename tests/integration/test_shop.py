"""`mentor-pl init --template shop`: a task of state runs at once, and its teacher succeeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.integration
def test_the_shop_trains_from_its_folder_and_the_teacher_succeeds(tmp_path: Path) -> None:
    def mentor_pl(*arguments: str, folder: Path = tmp_path) -> str:
        command = [sys.executable, "-m", "mentor_pl", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    mentor_pl("init", "shop", "--template", "shop")
    shop = tmp_path / "shop"
    shown = mentor_pl("fit", "--config", "mentor.yaml", "--trainer.max_steps=1", "--data.group_size=4", folder=shop)
    summary = json.loads((shop / "runs" / "last" / "summary.json").read_text())
    teacher, after = summary["teacher"]["held_out"], summary["after"]["held_out"]
    assert teacher["success"] == teacher["score/state"] == teacher["reward"] == teacher["finished"] == 1.0
    assert {"success", "score/state", "score/tool_match", "tool_match"} <= after.keys()
    assert "accuracy" not in after and "accuracy" not in shown
    rows = [json.loads(line) for line in (shop / "runs/last/trajectories/train.rank0.jsonl").read_text().splitlines()]
    assert all("orders" in row["final_state"] for row in rows if row["stop_reason"] != "infrastructure")
    card = (shop / "runs" / "last" / "student" / "README.md").read_text()
    assert "| split | success |" in card and "| state |" not in card  # the state is what success is taken from
