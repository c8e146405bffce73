"""The quickstart of an earlier version of this program and of this one, in turn: has it become slower?

    git worktree add ../before COMMIT    # and install it there into .venv
    python -m benchmarks.two_versions --before ../before [--output quickstart.json]

Both sides run `mentor-pl fit --config configs/mentor.yaml` with the same seed for a few updates, without evaluation, export and
summary, one after the other on one core; each pair begins with the other side. Compared are CPU seconds of the whole process (its
children's included), and the seconds of a step as the run logs them. The first step, in which everything is touched for the first
time, is left out of these. An interval is that of the median by order statistics, which assumes nothing of the ratios'
distribution.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import binom

HERE = Path(__file__).parents[1]
_STEP = ("train/time/rollout_s", "train/time/reward_s", "train/time/sync_s", "train/time/train_s")
_ALONE = (
    "--summary.enabled=false",
    "--export.enabled=false",
    "--trainer.limit_val_batches=0",
    "--trainer.enable_progress_bar=false",
)


def measure(checkout: Path, num_steps: int, core: int) -> dict[str, float]:
    """Run one quickstart.

    Args:
        checkout: With the program installed in its `.venv`.
        num_steps: Updates.
        core: The only core that the run may use.

    Returns:
        CPU and wall seconds of the run, and the median seconds of a step.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        fit = (checkout / ".venv" / "bin" / "mentor-pl", "fit", "--config", "configs/mentor.yaml", *_ALONE)
        began = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, fit), f"--run_dir={run_dir}", f"--trainer.max_steps={num_steps}"],
            cwd=checkout,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"the run in {checkout} ended with status {process.returncode}")
        with (run_dir / "metrics.csv").open(encoding="utf-8") as file:
            steps = [row for row in csv.DictReader(file) if row.get("train/loss")]
        seconds = [sum(float(row[key]) for key in _STEP) for row in steps[1:]]
        cpu_s = usage.ru_utime + usage.ru_stime
        return {"cpu_s": cpu_s, "wall_s": wall_s, "step_s": statistics.median(seconds)}


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the narrowest pair of order statistics that holds the median with a confidence of .95, and that confidence.

    Of n values the k-th lowest and the k-th highest enclose it with probability
    1 - 2 P(Binomial(n, 1/2) < k). Fewer than six values give the lowest and the highest, and less
    confidence.
    """
    ordered, k = sorted(values), 1
    while 1 - 2 * binom.cdf(k, len(ordered), 0.5) >= 0.95:
        k += 1
    return ordered[k - 1], ordered[-k], 1 - 2 * float(binom.cdf(k - 1, len(ordered), 0.5))


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="checkout of the earlier version")
    parser.add_argument("--now", type=Path, default=HERE, help="checkout of the later one; this one by default")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=12, help="updates of a run")
    parser.add_argument("--core", type=int, default=0, help="the core that all runs are pinned to")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    sides = {"before": given.before.resolve(), "now": given.now.resolve()}
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(given.pairs):
        for side in sorted(sides, reverse=bool(number % 2)):
            runs[side].append(measure(sides[side], given.steps, given.core))
            print(f"pair {number + 1}, {side}: {runs[side][-1]}", flush=True)
    ratios = {
        key: [now[key] / before[key] for before, now in zip(runs["before"], runs["now"], strict=True)]
        for key in runs["now"][0]
    }
    print("\n| | before, median | now, median | now / before | interval |\n|---|---|---|---|---|")
    for key, values in ratios.items():
        before, now = (statistics.median(run[key] for run in runs[side]) for side in ("before", "now"))
        low, high, confidence = median_interval(values)
        print(
            f"| {key} | {before:.2f} | {now:.2f} | {statistics.median(values):.3f} | {low:.3f} to {high:.3f} ({confidence:.0%}) |"
        )
    if given.output:
        given.output.write_text(json.dumps({"steps": given.steps, "runs": runs, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
