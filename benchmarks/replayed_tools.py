"""Training from the teacher's transcripts alone against training with live tools, on the embedded task.

    python -m benchmarks.replayed_tools [--seeds 2] [--runs runs/replayed_tools] [--results benchmarks/results/replayed_tools]
    python -m benchmarks.replayed_tools --table

Both arms train by configs/mentor.yaml; `replayed` runs no tool in training: `ReplayedTools` answers from the references. Both students are
then evaluated with live tools. Each arm and seed is one JSON file under --results; what is there is not run again. --table only writes the
table anew. CPU seconds are those of the training process and its workers, at one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

_LIVE = {"class_path": "PythonFunctions", "init_args": {"module": "mentor_pl.tools.arithmetic"}}
_REPLAYED = {"class_path": "ReplayedTools", "init_args": {"described_by": _LIVE}}
_START = "before training"
ARMS: dict[str, Any] = {"live": _LIVE, "replayed": _REPLAYED}
_COLUMNS = ("accuracy", "tool_match", "tool_similarity", "unknown_tool_rate")
_LEFT_OUT = ("--summary.enabled=false", "--trainer.limit_val_batches=0", "--trainer.enable_progress_bar=false")


def _mentor_pl(log: Path, *arguments: str) -> float:
    """Run a command of ours; return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(log, "a") as out:
        subprocess.run(
            [sys.executable, "-m", "mentor_pl", *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, student: str) -> dict[str, dict[str, float]]:
    """Evaluate a student with live tools; return its metrics by split."""
    arguments = ["validate", "--config=mentor", f"--model.student.init_args.path={student}", f"--run_dir={folder}"]
    _mentor_pl(folder.with_suffix(".log"), *arguments)
    scores: dict[str, dict[str, float]] = {}
    with open(folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if key.startswith("val/") and value:
                    _, split, metric = key.split("/", 2)
                    scores.setdefault(split, {})[metric] = float(value)
    return scores


def run_arm(arm: str, seed: int, runs: Path, results: Path) -> None:
    """Train one arm with one seed and measure it, unless that was done."""
    target = results / f"{arm}.seed{seed}.json"
    if target.exists():
        return
    folder = runs / arm / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    train = folder / "train"
    cpu_s = None
    if not (train / "student" / "config.json").exists():
        tools = f"--data.tools={json.dumps([ARMS[arm]])}"
        resumed = [f"--ckpt_path={last}"] if (last := train / "checkpoints" / "last.ckpt").exists() else []
        arguments = ["fit", "--config=mentor", tools, f"--seed_everything={seed}", f"--run_dir={train}", *_LEFT_OUT]
        cpu_s = _mentor_pl(folder / "train.log", *arguments, *resumed)
        cpu_s = None if resumed else round(cpu_s, 1)
    with open(train / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/reward")]
    curve = {key: [float(row[f"train/{key}"]) for row in rows] for key in ("reward", "score/correct", "tool_ok")}
    scores = measure(folder / "evaluation", str(train / "student"))
    fact = {"arm": arm, "seed": seed, "updates": len(rows), "cpu_s": cpu_s, "curve": curve, "scores": scores}
    results.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(fact, indent=1) + "\n")


def measure_start(runs: Path, results: Path) -> None:
    """Measure the student before training, unless that was done."""
    target = results / "start.json"
    if not target.exists():
        scores = measure(runs / "start", "embedded:student")
        target.write_text(json.dumps({"arm": _START, "scores": scores}, indent=1) + "\n")


def table(results: Path) -> str:
    """Return the results as a Markdown table: means over seeds, and each seed's values behind them."""
    facts = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    titles = [f"{metric.replace('_', ' ')} {short}" for metric in _COLUMNS for short in ("in", "out")]
    lines = ["| tools in training | seeds | " + " | ".join(titles) + " |", "|" + "---|" * (len(titles) + 2)]
    for arm in (_START, *ARMS):
        seeds = [fact["scores"] for fact in facts if fact["arm"] == arm]
        if not seeds:
            continue
        cells = [_cell([_side(scores, metric, inside) for scores in seeds]) for metric in _COLUMNS for inside in (1, 0)]
        lines.append(f"| {arm} | {'–' if arm == _START else len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _side(scores: dict[str, dict[str, float]], metric: str, inside: int) -> float:
    return fmean(row[metric] for split, row in scores.items() if (split == "id") == bool(inside))


def _cell(values: Sequence[float]) -> str:
    shown = f"{fmean(values):.3f}"
    return shown if len(values) < 2 else f"{shown} ({', '.join(f'{value:.3f}' for value in values)})"


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/replayed_tools"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/replayed_tools"))
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if not args.table:
        args.results.mkdir(parents=True, exist_ok=True)
        for seed in range(args.seeds):
            for arm in ARMS:
                run_arm(arm, seed, args.runs, args.results)
            measure_start(args.runs, args.results)
    (args.results / "replayed_tools.md").write_text(table(args.results))
    print(table(args.results))


if __name__ == "__main__":
    main()
