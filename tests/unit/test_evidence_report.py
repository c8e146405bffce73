"""The tables of `benchmarks.evidence`, on hand-worked outcomes."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.evidence.outcomes import Outcome, bootstrap_interval, means, seed_interval
from benchmarks.evidence.plan import Plan
from benchmarks.evidence.report import write_report
from mentor_pl.rewards.finished import Finished

RIGHT = Outcome(success=1.0, tool_match=1.0, calls=("a", "b"), wanted=("a", "b"))
WRONG = Outcome(success=0.0, tool_match=0.0, calls=("a",), wanted=("b", "b"))
SILENT = Outcome(success=0.0, tool_match=0.0, calls=(), wanted=("a",))


def test_means_of_three_problems() -> None:
    measured = means([RIGHT, WRONG, SILENT])
    assert measured["success"] == measured["tool_match"] == measured["refusals"] == pytest.approx(1 / 3)
    assert measured["calls"] == 1.0
    # called: a 2, b 1, none 1 of 4; wanted: a 2, b 3 of 5
    p, q = (0.5, 0.25, 0.25), (0.4, 0.6, 0.0)
    middle = [(one + other) / 2 for one, other in zip(p, q, strict=True)]
    apart = sum(a * math.log2(a / m) / 2 for side in (p, q) for a, m in zip(side, middle, strict=True) if a)
    assert measured["similarity"] == pytest.approx(1 - apart)


def test_who_calls_nothing_where_nothing_is_wanted_agrees_fully() -> None:
    assert means([Outcome(success=1.0, tool_match=1.0, calls=(), wanted=())])["similarity"] == pytest.approx(1.0)


def test_intervals() -> None:
    assert seed_interval([0.4]) is None
    low, high = seed_interval([0.4, 0.6]) or (0.0, 0.0)
    assert (low, high) == (pytest.approx(0.5 - 12.7062 * 0.1, abs=1e-4), pytest.approx(0.5 + 12.7062 * 0.1, abs=1e-4))
    assert bootstrap_interval([[1.0, 1.0], [0.0, 0.0]]) == (0.5, 0.5)  # nothing varies within a split
    low, high = bootstrap_interval([[0.0, 1.0]])
    assert (low, high) == (0.0, 1.0)  # both, or neither, are drawn in a quarter of the draws


def plan() -> Plan:
    return Plan(
        name="tried",
        references=dict,
        warm_start=(),
        arms=(),
        seeds=1,
        evaluation=[Path("mentor")],
        in_domain=("near",),
        out_of_domain=("far",),
        judge=Finished,
    )


def result(near: Outcome, far: Outcome, curve: list[float]) -> dict[str, object]:
    training = {"train/score/correct": curve} if curve else {}
    return {"training": training, "outcomes": {"near": {"n": asdict(near)}, "far": {"f": asdict(far)}}}


def test_the_report_has_what_ended_and_says_what_is_missing(tmp_path: Path) -> None:
    results = {
        "start": {0: result(WRONG, WRONG, [])},
        "MENTOR": {0: result(RIGHT, SILENT, [0.0, 0.2, 0.4, 0.6])},
        "later": {},
    }
    write_report(tmp_path, plan(), results, ["later with seed 0"])
    text = (tmp_path / "tried.md").read_text()
    assert "**Not all of it: 1 runs are missing** (later with seed 0)" in text
    assert "| MENTOR | 1 | 1.000 (1.00 to 1.00) | 0.000 (0.00 to 0.00) | 1.000 (1.00 to 1.00) |" in text
    assert "| 0.500 |" in text  # the mean of the curve's second half
    assert "| MENTOR | 1.000 (1.00 to 1.00) | – |" in text  # in domain, less the start
    assert "| later |" not in text
