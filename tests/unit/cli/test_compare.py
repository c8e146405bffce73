"""What `mentor-pl compare` makes of runs that are there already, so that it starts none."""

import json
import os
import signal
import sys
import threading
import time
from statistics import stdev

import pytest

from mentor_pl.cli.compare import _half_width, compare


def metrics(accuracy):
    others = {"tool_match": 0.5, "tool_similarity": 0.5, "unknown_tool_rate": 0.0, "calls_per_task": 1.0}
    return {split: {"accuracy": accuracy, **others} for split in ("id", "shift")}


@pytest.fixture
def rows(tmp_path):
    """Compares methods by the accuracies before and after each of their runs; returns the table's first two columns."""

    def table(**methods):
        for name, runs in methods.items():
            for seed, (before, after) in enumerate(runs):
                folder = tmp_path / name / str(seed)
                folder.mkdir(parents=True)
                summary = {"before": metrics(before), "after": metrics(after), "teacher": metrics(1.0)}
                (folder / "summary.json").write_text(json.dumps(summary))
        compare(dict.fromkeys(methods, "none.yaml"), seeds=2, output=tmp_path)
        lines = (tmp_path / "compare.md").read_text().split("Accuracy by split")[0].splitlines()
        return [tuple(line.split(" | ")[:2]) for line in lines if line.startswith("| ")][2:]

    return table


def test_one_start(rows):
    # Mean 0.5, standard deviation 0.1 * sqrt(2), Student's t 12.706 for one degree of freedom.
    assert rows(grpo=[(0.2, 0.4), (0.2, 0.6)], sft=[(0.2, 0.5), (0.2, 0.5)]) == [
        ("| vanilla", "0.200"),
        ("| grpo", "0.500 ± 1.271"),
        ("| sft", "0.500 ± 0.000"),
        ("| teacher", "1.000"),
    ]


@pytest.mark.parametrize(("second", "shown"), [("state", False), ("calls", True)])
def test_the_term_that_says_success_is_shown_once_where_it_is_the_same_for_all(tmp_path, second, shown):
    for method, term in (("a", "state"), ("b", second)):
        (tmp_path / method / "0").mkdir(parents=True)
        scores = {"held_out": {"success": 0.5, "score/state": 0.5, "score/calls": 0.25}}
        summary = {**dict.fromkeys(("before", "after", "teacher"), scores), "success_terms": {"held_out": term}}
        (tmp_path / method / "0" / "summary.json").write_text(json.dumps(summary))
    compare({"a": "none.yaml", "b": "none.yaml"}, seeds=1, output=tmp_path)
    header = next(line for line in (tmp_path / "compare.md").read_text().splitlines() if line.startswith("| method"))
    assert "success in" in header and "calls in" in header and ("state in" in header) == shown


def test_methods_that_start_differently_have_a_start_each(rows):
    table = rows(full=[(0.2, 0.5)] * 2, nf4=[(0.1, 0.5)] * 2, lora=[(0.2, 0.5)] * 2)
    assert table[:3] == [("| vanilla (full, lora)", "0.200"), ("| vanilla (nf4)", "0.100"), ("| full", "0.500 ± 0.000")]


def test_a_start_that_depends_on_the_seed(rows):
    assert rows(random=[(0.1, 0.5), (0.3, 0.5)])[0] == ("| vanilla", "0.200 ± 1.271")


@pytest.mark.parametrize(
    ("seeds", "quantile"),  # Student's t, two-sided 95 %, from a printed table
    [(2, 12.706), (11, 2.228), (12, 2.201), (31, 2.042)],
)
def test_the_interval_holds_for_any_number_of_seeds(seeds, quantile):
    values = [0.0, 1.0] * (seeds // 2) + [0.5] * (seeds % 2)
    assert _half_width(values) == pytest.approx(quantile * stdev(values) / seeds**0.5, rel=1e-3)


_NEVER_ENDS = """#!/bin/sh
trap 'touch ended; exit 0' TERM
touch begun-$$
while :; do sleep 0.01; done
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_comparison_that_is_stopped_ends_its_runs_and_starts_no_more(tmp_path, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run.sh"
    run.write_text(_NEVER_ENDS)
    run.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(run))

    def stop():
        while not list(tmp_path.glob("begun-*")):
            time.sleep(0.01)
        time.sleep(0.1)  # the shell has its trap before it says that it has begun; the comparison waits by then
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored
    threading.Thread(target=stop, daemon=True).start()
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            compare({"a": "none.yaml", "b": "none.yaml"}, seeds=2, output=tmp_path / "runs")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "ended").exists()
    assert len(list(tmp_path.glob("begun-*"))) == 1
