"""A run's folder, written by hand, becomes one page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mentor_pl.errors import DataFileError
from mentor_pl.reporting.charts import line_chart, smooth
from mentor_pl.reporting.page import render_report
from mentor_pl.reporting.run import read_run

HOSTILE = "</script><script>document.title = 'broken'</script>"


def _row(reference_id: str, step: int, sample: int, text: str) -> dict:
    call = {"id": "c0", "type": "function", "function": {"name": "plus", "arguments": '{"a": 1}'}}
    return {
        "reference_id": reference_id,
        "sample_index": sample,
        "finished": True,
        "step": step,
        "reward": 0.1,
        "scores": {"correct": 0.0},
        "messages": [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c0", "content": HOSTILE, "status": "error"},
            {"role": "assistant", "content": text},
        ],
    }


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    (run / "trajectories").mkdir(parents=True)
    reference = {
        "id": "p0",
        "prompt": "1 + 2?",
        "answer": "3",
        "tools": ["add"],
        "messages": [
            {"role": "user", "content": "1 + 2?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "t0", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "t0", "content": "3"},
            {"role": "assistant", "content": "\\boxed{3}"},
        ],
    }
    del reference["prompt"]
    (tmp_path / "refs.jsonl").write_text(json.dumps(reference) + "\n")
    config = {"data": {"references": str(tmp_path / "refs.jsonl")}, "model": {}, "seed_everything": 7}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "metrics.csv").write_text("epoch,step,train/reward,val/id/accuracy\n0,0,0.25,\n0,1,0.75,\n0,1,,0.5\n")
    rows = [_row("p0", step, sample, HOSTILE) for step in range(5) for sample in range(2)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (run / "trajectories" / "train.rank0.jsonl").write_text("".join(lines) + '{"torn')
    (run / "summary.json").write_text(
        json.dumps({"before": {"id": {"accuracy": 0.1}}, "after": {"id": {"accuracy": 0.9}}, "teacher": {}})
    )
    return run


def test_whole_groups_of_first_last_and_between_are_kept(run_folder: Path) -> None:
    run = read_run(run_folder, max_trajectories=6)
    assert [(row["step"], row["sample_index"]) for row in run.trajectories] == [
        (0, 0), (0, 1), (2, 0), (2, 1), (4, 0), (4, 1),
    ]  # fmt: skip
    assert run.curves == {"train/reward": [(0.0, 0.25), (1.0, 0.75)], "val/id/accuracy": [(1.0, 0.5)]}
    assert set(run.references) == {"p0"}


def test_a_resumed_run_has_one_curve(run_folder: Path) -> None:
    (run_folder / "metrics.csv").write_text("epoch,step,train/reward\n0,4,0.75\n0,5,0.875\n")
    (run_folder / "metrics.20.csv").write_text("epoch,step,train/reward\n0,2,0.5\n0,4,0.25\n")  # lost with step 4
    (run_folder / "metrics.10.csv").write_text("epoch,step,train/reward\n0,1,0.125\n0,2,0.375\n")
    run = read_run(run_folder, max_trajectories=6)
    assert run.curves == {"train/reward": [(1.0, 0.125), (2.0, 0.5), (4.0, 0.75), (5.0, 0.875)]}


def test_text_cannot_leave_its_place(run_folder: Path) -> None:
    page = render_report(read_run(run_folder, max_trajectories=10))
    assert HOSTILE not in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    attempt = json.loads(data[1])["groups"][0]["attempts"][0]
    assert attempt["messages"][1]["text"] == HOSTILE
    assert attempt["messages"][0]["calls"][0] == {
        "name": "plus", "arguments": '{"a": 1}', "status": "error", "kind": "unknown",
    }  # fmt: skip


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"has no config\.yaml; give the folder of a run"):
        read_run(tmp_path, max_trajectories=1)


def test_smoothing_averages_what_came_before() -> None:
    assert smooth([(0, 1.0), (1, 3.0), (2, 8.0)], 2) == [(0, 1.0), (1, 2.0), (2, 5.5)]


def test_a_line_runs_from_corner_to_corner() -> None:
    chart = line_chart("t", {"a": [(0, 0.0), (4, 1.0)], "empty": [(0, float("nan"))]})
    assert chart is not None
    assert 'points="46.0,204.0 450.0,10.0"' in chart.svg
    assert [name for _, name in chart.legend] == ["a"]
    assert line_chart("t", {}) is None


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_student_beside_teacher(run_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_report(read_run(run_folder, max_trajectories=10)))
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync".split()
    )
    common = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}"]
    dom = subprocess.run(
        [*common, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "<title>run</title>" in dom.stdout  # the hostile text has not run
    assert "Student, step 0, attempt 1 of 2" in dom.stdout
    assert 'class="unknown">plus<' in dom.stdout
    assert 'class="teacher">add<' in dom.stdout
    shot = tmp_path / "shot.png"
    subprocess.run([*common, f"--screenshot={shot}", page.as_uri()], capture_output=True, timeout=120, check=True)
    assert shot.stat().st_size > 10_000
