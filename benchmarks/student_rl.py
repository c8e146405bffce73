"""NF4 + LoRA against LoRA under reinforcement learning: MENTOR on the embedded task, same seeds, steps and learning rate.

    python -m benchmarks.student_rl [--steps 40] [--lr 2.5e-3] [--seeds 3] [--runs runs/student_rl] [--output FILE.json]

The runs are those of `mentor-pl compare`: an interrupted benchmark goes on where it was. `before` is each student untrained, which differs
because 4 bits round the weights; `difference` is NF4 + LoRA less LoRA for each seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from mentor_pl.cli.compare import compare

STUDENTS = {
    "LoRA": "configs/mentor.yaml+configs/student/lora.yaml",
    "NF4 + LoRA": "configs/mentor.yaml+configs/student/nf4_lora.yaml",
}
METRICS = ("accuracy", "tool_match")


def in_and_out(scores: dict[str, dict[str, float]], metric: str) -> tuple[float, float]:
    """Return a metric in domain, and its mean over all other splits."""
    return scores["id"][metric], fmean(values[metric] for split, values in scores.items() if split != "id")


def main() -> None:
    """Train, print compare's table and the differences seed by seed, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/student_rl"))
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    fixed = [f"--trainer.max_steps={args.steps}", f"--model.optimizer.init_args.lr={args.lr}"]
    fixed += ["--trainer.limit_val_batches=0", "--export.enabled=false"]
    compare(STUDENTS, seeds=args.seeds, output=args.runs, arguments=fixed)

    compared = json.loads((args.runs / "compare.json").read_text())
    files = sorted(args.runs.glob("*/0/summary.json"))
    before = {file.parents[1].name: json.loads(file.read_text())["before"] for file in files}
    difference: dict[str, Any] = {}
    for metric in METRICS:
        pairs = zip(compared["runs"]["NF4 + LoRA"], compared["runs"]["LoRA"], strict=True)
        rows = [[in_and_out(run, metric) for run in pair] for pair in pairs]
        for place, label in enumerate(("in domain", "out of domain")):
            difference[f"{metric}, {label}"] = [round(nf4[place] - lora[place], 4) for nf4, lora in rows]
    for name, scores in before.items():
        print("before, {}: accuracy {:.3f} in domain, {:.3f} out".format(name, *in_and_out(scores, "accuracy")))
    for label, values in difference.items():
        print(f"NF4 + LoRA less LoRA, {label}: {', '.join(f'{value:+.3f}' for value in values)}")
    if args.output:
        facts = {"steps": args.steps, "lr": args.lr, "seeds": args.seeds, "before": before, "difference": difference}
        args.output.write_text(json.dumps({**facts, **compared}, indent=1) + "\n")


if __name__ == "__main__":
    main()
