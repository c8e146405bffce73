"""The ladder's table, from files made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ladder_table
from benchmarks.ladder_arms import ARMS
from benchmarks.ladder_table import by_problem, out_of_domain, over_problems, reached, write_table


def run(solved: str, *, seed: int = 0, curve: tuple[tuple[float, ...], ...] = ()) -> dict[str, Any]:
    """A run that solves all problems in domain, and these out of it, in two splits of the same outcome."""

    def split(flags: str) -> dict[str, Any]:
        return {"accuracy": flags.count("1") / len(flags), "tool_match": 0.5, "tool_similarity": 0.25, "solved": flags}

    return {"seed": seed, "curve": curve, "after": {"id": split("11"), "long": split(solved), "shift": split(solved)}}


def test_accuracy_out_of_domain_is_the_mean_of_the_other_splits() -> None:
    assert out_of_domain(run("1000"), "accuracy") == 0.25


def test_the_curve_reaches_nine_tenths_of_its_own_end() -> None:
    curve = ((8, 10.0, 1000, 0.5), (16, 20.0, 2000, 0.9), (24, 30.0, 3000, 0.8))
    assert reached(run("1", curve=curve)) == (16, 20.0, 2000)
    assert reached(run("1", curve=curve[:1])) is None


def test_differences_are_paired_by_problem() -> None:
    assert by_problem(run("1100"), run("0101")) == [1, 0, 0, -1] * 2
    # Means over two seeds: (1 + 1) / 2, 0, 0, (-1 + 0) / 2, twice. Mean 1/8; squares around it sum to
    # 2 (49/64 + 1/64 + 1/64 + 25/64) = 19/8; std sqrt(19/56); Student's t 2.3646 for seven degrees of freedom.
    pairs = [(run("1100"), run("0101")), (run("1101"), run("0101"))]
    assert over_problems(pairs) == pytest.approx(2.3646 * (19 / 56 / 8) ** 0.5, rel=1e-4)


def test_the_table_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, addition = (arm for arm in ARMS if arm.name in ("MENTOR exact", "hints"))
    monkeypatch.setattr(ladder_table, "ARMS", (base, addition))
    for seed in (0, 1):
        (tmp_path / f"{base.slug}.seed{seed}.json").write_text(json.dumps(run("1100", seed=seed)))
    (tmp_path / f"{addition.slug}.seed0.json").write_text(json.dumps(run("1110", seed=0)))
    text = write_table(tmp_path, seeds=2)
    # Student's t for one pair of seeds is none; over the problems: differences 0 0 1 0, twice.
    row = next(line for line in text.splitlines() if line.startswith("| hints | 1 |"))
    assert "| +0.250 (problems ± 0.387) |" in row
    assert "Runs that are missing, of 2 arms with 2 seeds each: hints (1)." in text


def test_files_of_two_arms_never_have_one_name() -> None:
    assert len({arm.slug for arm in ARMS}) == len(ARMS)
    assert all(arm.against in {other.name for other in ARMS} for arm in ARMS)
