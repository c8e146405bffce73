"""`mentor-pl fit` as a user runs it: what its folder holds, and that each thing in it can be used."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parents[2]
SMALL = (
    "--trainer.max_steps=2 --data.max_problems=4 --data.prompts_per_round=4 --data.group_size=4 "
    "--trainer.enable_progress_bar=false"
).split()


def mentor_pl(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mentor_pl", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.integration
def test_a_run_leaves_what_the_readme_says(tmp_path: Path) -> None:
    shown = mentor_pl(tmp_path, "fit", "--config", str(ROOT / "configs/mentor.yaml"), *SMALL)
    run = tmp_path / "runs" / "last"
    assert "before → after" in shown and run.resolve().name in shown

    summary = json.loads((run / "summary.json").read_text())
    assert set(summary) == {"before", "after", "teacher", "steps", "success_terms"}
    assert set(summary["after"]) == {"id", "shift", "large", "long", "phrase", "combo"}
    assert {"accuracy", "tool_match", "unknown_tool_rate", "calls_per_task", "tool_similarity"} <= set(
        summary["after"]["id"]
    )
    assert summary["teacher"]["id"]["accuracy"] == summary["teacher"]["id"]["tool_match"] == 1.0

    with open(run / "metrics.csv", newline="") as file:
        rewards = [row["train/reward"] for row in csv.DictReader(file) if row["train/reward"]]
    assert len(rewards) == 2
    assert (run / "checkpoints" / "last.ckpt").exists()

    mentor_pl(
        tmp_path,
        *["score", "--program", str(ROOT / "configs/rewards/mentor.yaml"), "--output", "scores.jsonl"],
        *["--references", str(ROOT / "mentor_pl/embedded/data/train.parallel.jsonl")],
        *["--trajectories", str(run / "trajectories/train.rank0.jsonl")],
    )
    rows = [json.loads(line) for line in (run / "trajectories/train.rank0.jsonl").read_text().splitlines()]
    scored = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 4 * 4
    assert [row["reward"] for row in scored] == pytest.approx([row["reward"] for row in rows])

    student = AutoModelForCausalLM.from_pretrained(run / "student")
    assert student.num_parameters() == 738_176
    assert AutoTokenizer.from_pretrained(run / "student").chat_template

    first = run.resolve()
    mentor_pl(tmp_path, "fit", "--config", str(first / "config.yaml"), f"--run_dir={tmp_path / 'runs' / 'again'}")
    assert (tmp_path / "runs" / "last").resolve().name == "again"
    again = json.loads((tmp_path / "runs" / "again" / "summary.json").read_text())
    assert again == summary  # the saved config repeats the run

    # Resumed in its own folder, by the link to it, a run goes on with its log.
    resume = (
        f"--run_dir={run} --ckpt_path={run / 'checkpoints/last.ckpt'} --trainer.max_steps=3 --summary.enabled=false"
    )
    mentor_pl(tmp_path, "fit", "--config", str(first / "config.yaml"), *resume.split())
    with open(run / "metrics.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["train/reward"]] == ["0", "1", "2"]
    assert not list(run.glob("metrics.*.csv"))
    assert run.resolve().name == "again"
