"""A whole GRPO step with tools, ours against TRL's, on the same tokens: CPU seconds at one thread, tokens prefilled, memory.

    python -m benchmarks.step_vs_trl [--model tiny|smollm2] [--dtype float32|bfloat16] [--runs 3] [--output FILE.json]

Both sides train the same weights on the same prompts, tool, rewards and *forced* tokens, so that turns and token counts are identical;
the gradient norm of the first step shows that they compute the same thing. Each run of a side is a process of its own; sides alternate.
CPU time is what other jobs on the machine disturb least. `float32` and `bfloat16` (autocast over float32 weights) mean the same on both
sides. Needs the extra `bench`, and for SmolLM2 the plugin `plugins/mentor-pl-smollm2` with its weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.step_workload import Workload, prepare_student

SIDES = {"TRL": "benchmarks.trl_side", "mentor_pl": "benchmarks.mentor_side"}
_MEASURED = ("rollout_cpu_s", "train_cpu_s", "step_cpu_s", "prefilled_tokens", "peak_rss_mib")
_BARS = {
    ("tiny", "float32"): {"step": 4.5},
    ("smollm2", "float32"): {"step": 3.5, "memory": 2.0},
    ("smollm2", "bfloat16"): {"step": 4.5, "memory": 2.0},
}
_COMMON_BARS = {"rollout": 5.0, "training": 3.0, "prefilled": 10.0}
"""What the project asks of its own ratios."""


def run_side(side: str, options: list[str]) -> dict[str, Any]:
    """Run one side once, in a process of its own."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "side.json"
        command = [sys.executable, "-m", SIDES[side], "--output", str(output), *options]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return json.loads(output.read_text())


def compare(runs: dict[str, list[dict[str, Any]]], model: str, dtype: str) -> dict[str, Any]:
    """Take medians over runs, and the ratios TRL / mentor_pl with their bars."""
    medians = {side: {key: statistics.median(run[key] for run in runs[side]) for key in _MEASURED} for side in SIDES}
    trl, ours = medians["TRL"], medians["mentor_pl"]
    ratios = {
        "rollout": trl["rollout_cpu_s"] / ours["rollout_cpu_s"],
        "training": trl["train_cpu_s"] / ours["train_cpu_s"],
        "step": trl["step_cpu_s"] / ours["step_cpu_s"],
        "prefilled": trl["prefilled_tokens"] / ours["prefilled_tokens"],
        "memory": trl["peak_rss_mib"] / ours["peak_rss_mib"],
    }
    return {"medians": medians, "ratios": ratios, "bars": _COMMON_BARS | _BARS.get((model, dtype), {})}


def table(result: dict[str, Any]) -> str:
    """Lay a comparison out."""
    lines = [f"{'':12}{'rollout':>9}{'train':>9}{'step':>9}  {'prefilled':>9}{'peak MiB':>10}"]
    for side, row in result["medians"].items():
        lines.append(
            f"{side:12}{row['rollout_cpu_s']:9.2f}{row['train_cpu_s']:9.2f}{row['step_cpu_s']:9.2f}"
            f"  {row['prefilled_tokens']:9.0f}{row['peak_rss_mib']:10.0f}"
        )
    columns = ("rollout", "training", "step", "prefilled", "memory")
    for name in ("ratios", "bars"):
        cells = [f"{result[name][c]:.2f}x" if c in result[name] else "" for c in columns]
        lines.append(f"{name:12}{cells[0]:>9}{cells[1]:>9}{cells[2]:>9}  {cells[3]:>9}{cells[4]:>10}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", choices=["tiny", "smollm2"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="measured steps in each run")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them that are not measured")
    parser.add_argument(
        "--kl-weight", type=float, default=0.0, help="above 0 both sides score the reference policy too"
    )
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--output", type=Path)
    Workload.add_arguments(parser)
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with TemporaryDirectory() as folder:
        prepare_student(arguments.model, Path(folder))
        options = ["--folder", folder, "--dtype", arguments.dtype, "--steps", str(arguments.steps)]
        options += ["--warm-up", str(arguments.warm_up)]
        options += ["--kl-weight", str(arguments.kl_weight)]
        options += ["--gradient-checkpointing"] if arguments.gradient_checkpointing else []
        for name in Workload.__dataclass_fields__:
            options += [f"--{name.replace('_', '-')}", str(getattr(work, name))]
        for run in range(arguments.runs):
            for side in SIDES:
                runs[side].append(run_side(side, options))
                done = runs[side][-1]
                print(
                    f"run {run + 1} {side}: step {done['step_cpu_s']:.1f} CPU s, first gradient norm {done['first_gradient_norm']:.4f}",
                    flush=True,
                )
    result = compare(runs, arguments.model, arguments.dtype)
    ours = result["medians"]["mentor_pl"]
    print(
        f"\n{arguments.model} {arguments.dtype}: {work.rows} rows, {runs['TRL'][0]['sampled_tokens']} sampled tokens, CPU seconds "
        f"of a step at 1 thread, median of {arguments.runs}"
    )
    print(table(result))
    if arguments.output:
        sampled = runs["mentor_pl"][0]["sampled_tokens"]
        packages = ("torch", "transformers", "lightning", "trl", "mentor-pl")
        report = {
            "options": {name: value for name, value in vars(arguments).items() if name != "output"},
            "sampled_tokens": sampled,
            "our_sampled_tokens_per_cpu_s": {
                "rollout": sampled / ours["rollout_cpu_s"],
                "step": sampled / ours["step_cpu_s"],
            },
            **result,
            "versions": {package: version(package) for package in packages} | {"python": platform.python_version()},
            "processor": _processor(),
            "runs": runs,
        }
        arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
