r"""What rollouts in bfloat16, or one round ahead, save, how far they are from the trained policy, and whether such runs learn as well.

    python -m benchmarks.cheaper_rollouts --steps 15 --seeds 0 1
    python -m benchmarks.cheaper_rollouts --steps 2 --seeds 0 --arms float32 "bfloat16, corrected" --output smollm2.json -- \
        --model.student SmolLM2Student --data.prompts_per_round 2 --data.limits.max_completion_tokens 100 \
        --trainer.accumulate_grad_batches 4 --summary.enabled false

Short runs of the embedded task, alternating between arms; prints a table and writes JSON. What follows `--` goes to `mentor-pl fit`.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import nn

from mentor_pl.cli.training import main as train
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.training.stream import RolloutStream

CONFIGS = Path(__file__).parents[1] / "configs"
CHEAPER = ("--config", str(CONFIGS / "engine/bfloat16.yaml"))
ARMS: dict[str, tuple[str, ...]] = {
    "float32": (),
    "bfloat16, corrected": CHEAPER,
    "bfloat16, uncorrected": (*CHEAPER, "--model.correction", "null"),
    "float32, one round ahead": (
        *("--model.engine", "benchmarks.cheaper_rollouts.OwnWeights", "--data.round.ahead", "1"),
        *("--model.correction", "TruncatedImportanceSampling"),
    ),
}


class OwnWeights(CascadeEngine):
    """Samples from a copy of the weights, as a server does."""

    holds_own_weights = True

    def sync(self, model: nn.Module, version: int) -> None:
        """Copy the weights."""
        super().sync(copy.deepcopy(model), version)


def measure(arm: str, seed: int, steps: int, folder: Path, more: list[str]) -> dict[str, Any]:
    """Train, and report CPU seconds of rollouts in this process, the log's means, and the accuracy before and after."""
    rollout_s: list[float] = []
    roll_out: Callable[..., Any] = RolloutStream.roll_out

    def timed(*arguments: Any) -> Any:
        began = time.thread_time()  # of this thread alone: another one may be training
        out = roll_out(*arguments)
        rollout_s.append(time.thread_time() - began)
        return out

    run = folder / f"{arm} {seed}"
    options = {
        "seed_everything": seed,
        "run_dir": run,
        "trainer.max_steps": steps,
        "trainer.limit_val_batches": 0,
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "recorder.every_n_rounds": 0,
        "export.enabled": "false",
        "checkpoint.save_top_k": 0,
        "checkpoint.save_last": "false",
        "data.evaluation": '{"id": "embedded:eval/id.jsonl"}',
        "data.max_problems": "null",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    with mock.patch.object(RolloutStream, "roll_out", timed):
        train(["fit", "--config", str(CONFIGS / "mentor.yaml"), *ARMS[arm], *arguments, *more])
    with open(run / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    summary: dict[str, Any] = {}
    if (run / "summary.json").exists():
        summary = json.loads((run / "summary.json").read_text())

    def mean(name: str, last: int = 0) -> float | None:
        return fmean(float(row[name]) for row in rows[-last:]) if name in rows[0] else None

    return {
        "arm": arm,
        "seed": seed,
        "rollout_cpu_s": fmean(rollout_s),
        "sync_s": mean("train/time/sync_s"),
        "staleness": mean("train/staleness"),
        "sampled_tokens": mean("train/engine/sampled_tokens"),
        "kl": mean("train/sampling_kl"),
        "worst_logprob_difference": max(float(row["train/logprob_difference"]) for row in rows),
        "effective_sample_size": mean("train/correction/effective_sample_size"),
        "capped": mean("train/correction/capped"),
        "reward_last_5": mean("train/reward", 5),
        "accuracy_before": summary["before"]["id"]["accuracy"] if summary else None,
        "accuracy_after": summary["after"]["id"]["accuracy"] if summary else None,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/cheaper_rollouts.json")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("more", nargs="*")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            rows += [measure(arm, seed, arguments.steps, Path(folder), arguments.more) for arm in arguments.arms]
    arguments.output.write_text(json.dumps(rows, indent=2) + "\n")
    print(" | ".join(rows[0]))
    for row in rows:
        print(
            " | ".join(
                "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
                for value in row.values()
            )
        )


if __name__ == "__main__":
    main()
