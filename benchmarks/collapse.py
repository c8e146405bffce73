"""The guard against collapse, tried on runs that do collapse and on runs that do not.

    python -m benchmarks.collapse [--runs runs/collapse] [--output benchmarks/results/collapse.json]

Each trial is MENTOR on the embedded task with one thing spoilt. Success is the greedy accuracy at 100 problems in domain, tried every
second update. It has fallen by a tenth at the first point from which on it stays below .9 of the best before. A report is in time if
it comes before that. The healthy runs are some of its own, which are short, and those of the ladder, whose files say what the guard
reported. What is in the output is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ladder import MEASURED_ALONE

_CORRECT = {"name": "correct", "component": {"class_path": "Correct"}}


_NOT_MEASURED = [argument for argument in MEASURED_ALONE if "LadderProbe" not in argument]


def _program(bonus: str, *, correct: float) -> str:
    terms = [
        {**_CORRECT, "weight": correct},
        {"name": "known_tools", "component": "KnownTools", "weight": 0.0},
        {"name": "bonus", "component": {"class_path": f"benchmarks.collapse_rewards.{bonus}"}, "weight": 1.0},
    ]
    return json.dumps({"exits": [], "terms": terms})


TRIALS: dict[str, tuple[str, int]] = {
    "learning rate 20 times too high": ("--model.optimizer.init_args.lr=5e-3", 10),
    "a wrong judge": (f"--data.reward={_program('ShortAnswerJudge', correct=0.0)}", 20),
    "a bonus for any call": (f"--data.reward={_program('AnyCall', correct=0.2)}", 28),
    "learning rate 8 times too high": ("--model.optimizer.init_args.lr=2e-3", 16),
}
"""What is spoilt, and how many updates it takes until success has fallen."""


HEALTHY: dict[str, tuple[str, ...]] = {
    **{
        f"SFT, {teacher} teacher, seed {seed}": (
            *("--config=sft", f"--data.references=embedded:train.{teacher}.jsonl", f"--seed_everything={seed}"),
        )
        for teacher in ("stepwise", "parallel")
        for seed in (0, 1)
    },
    **{
        f"MENTOR, seed {seed}, {updates} updates": (
            *("--config=mentor", f"--seed_everything={seed}", f"--trainer.max_steps={updates}"),
        )
        for seed, updates in ((2, 24), (3, 24))
    },
}
"""Healthy runs, without evaluation."""


def fell_at(curve: Sequence[tuple[int, float]]) -> int | None:
    """Return the update at which success had fallen by a tenth for good; None where it never did.

    Args:
        curve: Updates and success, in order.
    """
    for place, (update, _) in enumerate(curve):
        if place and all(later < 0.9 * max(s for _, s in curve[:place]) for _, later in curve[place:]):
            return update
    return None


def trial(name: str, argument: str, updates: int, runs: Path) -> dict[str, Any]:
    """Run one trial; return its curve, what was reported, and whether that was in time."""
    folder = runs / name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "mentor_pl", "fit", "--config=mentor", argument, *MEASURED_ALONE]
    command += [f"--run_dir={folder}", f"--trainer.max_steps={updates}"]
    command += [
        "--trainer.callbacks.every_n_steps=2",
        "--trainer.callbacks.before=true",
        "--trainer.callbacks.all_splits=false",
    ]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    measured = json.loads((folder / "ladder.json").read_text())
    curve = [
        (0, measured["before"]["id"]["accuracy"]),
        *((step, accuracy) for step, _, _, accuracy in measured["curve"]),
    ]
    signs = reported(folder)
    fell = fell_at(curve)
    first = signs[0][0] if signs else None
    return {
        "curve": curve,
        "signs": signs,
        "fell_by_a_tenth_at": fell,
        "first_reported_at": first,
        "in_time": fell is None or (first is not None and first < fell),
    }


def reported(folder: Path) -> list[list[Any]]:
    """Return update, sign and finding of every report of a run."""
    report = folder / "collapse.jsonl"
    rows = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    return [[row["step"], row["sign"], row["found"]] for row in rows]


def healthy(name: str, arguments: Sequence[str], runs: Path) -> list[list[Any]]:
    """Run one healthy run; return what was reported."""
    folder = runs / "healthy" / name.replace(" ", "-").replace(",", "")
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "mentor_pl", "fit", *arguments, *_NOT_MEASURED, f"--run_dir={folder}"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    return reported(folder)


def main() -> None:
    """Run every trial that is not in the file yet, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/collapse"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/collapse.json"))
    parser.add_argument("--ladder", type=Path, default=Path("benchmarks/results/ladder"))
    args = parser.parse_args()
    results = json.loads(args.output.read_text()) if args.output.exists() else {"trials": {}, "healthy": {}}
    for name, (argument, updates) in TRIALS.items():
        if name not in results["trials"]:
            results["trials"][name] = trial(name, argument, updates, args.runs.resolve())
        found = results["trials"][name]
        print(
            f"{name}: fell at {found['fell_by_a_tenth_at']}, reported at {found['first_reported_at']}: {found['signs'][:2]}"
        )
        args.output.write_text(json.dumps(results, indent=1) + "\n")
    for name, arguments in HEALTHY.items():
        if name not in results["healthy"]:
            results["healthy"][name] = healthy(name, arguments, args.runs.resolve())
            args.output.write_text(json.dumps(results, indent=1) + "\n")
    ladder = {file.stem: json.loads(file.read_text()) for file in sorted(args.ladder.glob("*.seed*.json"))}
    results["ladder"] = {name: run["signs"] for name, run in ladder.items() if "signs" in run}
    for what in ("healthy", "ladder"):
        alarmed = [name for name, signs in results[what].items() if signs]
        print(f"{len(results[what])} runs ({what}), {len(alarmed)} with a report: {', '.join(alarmed)}")
    args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
