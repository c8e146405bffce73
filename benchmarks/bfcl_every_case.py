"""Every single-turn case of BFCL that can be converted, in training: imitated, rolled out and trained on, and evaluated.

    python -m benchmarks.bfcl_every_case [--runs runs/bfcl_every_case] [--output benchmarks/results/bfcl_every_case.json]

One pass of SFT over all solutions, then one of RL over all prompts from the student that SFT left, then an evaluation on all prompts. The
student is the embedded one, with room for the longest prompt; the tools are `DeclaredTools`. This shows that every case goes through; so
small a student learns little from it. Needs the package bfcl-eval (plugin mentor-pl-bfcl). A run that was killed goes on from its last
checkpoint, and what is in the output is not run again. CPU seconds are those of the training process and its workers, at one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mentor_pl.embedded import resolve
from mentor_pl.files import read_references, write_references
from mentor_pl.reference import Reference, group_by_prompt
from mentor_pl.references.converters import bfcl

PROMPTS_PER_ROUND, GROUP_SIZE, MAX_COMPLETION_TOKENS = 64, 2, 24
MAX_CONTEXT = 8192
REWARD: dict[str, Any] = {
    "terms": [
        {"name": "correct", "component": "BFCLCorrect", "weight": 0.7, "success": True},
        {"name": "tool_match", "component": "ToolMatch", "weight": 0.3},
    ]
}


def write_cases(folder: Path) -> Path:
    """Convert every case that can be; return the reference file."""
    from mentor_pl_bfcl.cases import SINGLE_TURN
    from mentor_pl_bfcl.package import data_folder

    file = folder / "every_case.jsonl"
    if not file.exists():
        converted = (one for name in SINGLE_TURN for one in bfcl(data_folder() / f"BFCL_v4_{name}.json"))
        write_references(file, (one for one in converted if isinstance(one, Reference)))
    return file


def write_student(folder: Path) -> Path:
    """Copy the embedded student, with positions up to `MAX_CONTEXT`; rotary embeddings have no table to enlarge."""
    student = folder / "start"
    if not student.exists():
        shutil.copytree(resolve("embedded:student"), student)
        config = json.loads((student / "config.json").read_text())
        (student / "config.json").write_text(json.dumps(config | {"max_position_embeddings": MAX_CONTEXT}))
    return student


def train(kind: str, file: Path, start: Path, folder: Path, num_trained: int) -> dict[str, Any]:
    """Let one pass be trained on; return what was counted.

    Args:
        kind: `sft`, or `mentor` for RL.
        file: The references.
        start: The student.
        folder: Of the run.
        num_trained: Solutions, or prompts, of the pass.
    """
    rounds = math.ceil(num_trained / PROMPTS_PER_ROUND)
    last = folder / "checkpoints" / "last.ckpt"
    arguments = [
        *("fit", f"--config={kind}", f"--run_dir={folder}", f"--model.student.init_args.path={start}"),
        *(f"--data.references={file}", '--data.tools=[{"class_path": "DeclaredTools"}]'),
        *(f"--data.evaluation={json.dumps({'all': str(file)})}", f"--data.reward={json.dumps(REWARD)}"),
        *(f"--data.prompts_per_round={PROMPTS_PER_ROUND}", f"--data.group_size={GROUP_SIZE}"),
        f"--data.limits.max_completion_tokens={MAX_COMPLETION_TOKENS}",
        *("--trainer.accelerator=cpu", "--trainer.accumulate_grad_batches=4", "--trainer.enable_progress_bar=false"),
        *("--trainer.max_epochs=-1", f"--trainer.max_steps={rounds}", "--trainer.limit_val_batches=0"),
        *("--recorder.every_n_rounds=1", "--summary.enabled=false", "--checkpoint.every_n_train_steps=5"),
        "--trainer.callbacks+=benchmarks.bfcl_counts.TrainedCounts",
    ]
    resumed = [f"--ckpt_path={last}"] if last.exists() else []
    cpu_s = _mentor_pl(folder, *arguments, *resumed)
    counts = json.loads((folder / "trained.json").read_text())
    with open(folder / "metrics.csv", newline="") as rows:
        losses = [float(row["train/loss"]) for row in csv.DictReader(rows) if row.get("train/loss")]
    found = {"updates": rounds, **counts, "losses": losses, "resumed": bool(resumed), "cpu_s": cpu_s}
    if kind == "sft":
        return found
    rows = [
        json.loads(line)
        for path in sorted((folder / "trajectories").glob("train.rank*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return found | {
        "prompts_tried": len({row["reference_id"] for row in rows}),
        "trajectories": len(rows),
        "stops": dict(Counter(row["stop_reason"] for row in rows)),
        "mean_reward": sum(row["reward"] for row in rows) / len(rows),
    }


def evaluate(file: Path, student: Path, folder: Path) -> dict[str, Any]:
    """Try every prompt once, greedily; return the metrics."""
    arguments = [
        *("validate", "--config=mentor", f"--run_dir={folder}", f"--model.student.init_args.path={student}"),
        *("--data.references=null", '--data.tools=[{"class_path": "DeclaredTools"}]'),
        *(f"--data.evaluation={json.dumps({'all': str(file)})}", f"--data.reward={json.dumps(REWARD)}"),
        *(f"--data.limits.max_completion_tokens={MAX_COMPLETION_TOKENS}", "--data.max_problems=null"),
        *("--trainer.accelerator=cpu", "--trainer.limit_val_batches=1.0", "--trainer.enable_progress_bar=false"),
        "--recorder.every_n_rounds=1",
    ]
    cpu_s = _mentor_pl(folder, *arguments)
    with open(folder / "metrics.csv", newline="") as rows:
        metrics = {
            key.removeprefix("val/all/"): float(value)
            for row in csv.DictReader(rows)
            for key, value in row.items()
            if key.startswith("val/all/") and value
        }
    return {"metrics": metrics, "cpu_s": cpu_s}


def _mentor_pl(folder: Path, *arguments: str) -> float:
    """Run a command of ours; return its CPU seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(folder.with_suffix(".log"), "a") as out:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mentor_pl", *arguments]
        subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


def main() -> None:
    """Run what is missing, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/bfcl_every_case"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/bfcl_every_case.json"))
    args = parser.parse_args()
    runs = args.runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    file, start = write_cases(runs), write_student(runs)
    references = list(read_references(file))
    prompts = group_by_prompt(references)
    results: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {}
    results |= {"references": len(references), "prompts": len(prompts)}
    stages = {
        "sft": lambda: train("sft", file, start, runs / "sft", len(references)),
        "rl": lambda: train("mentor", file, runs / "sft" / "student", runs / "rl", len(prompts)),
        "evaluation": lambda: evaluate(file, runs / "rl" / "student", runs / "evaluation"),
    }
    for name, stage in stages.items():
        if name not in results:
            results[name] = stage()
            args.output.write_text(json.dumps(results, indent=1) + "\n")
        print(name, {key: value for key, value in results[name].items() if key != "losses"}, flush=True)


if __name__ == "__main__":
    main()
