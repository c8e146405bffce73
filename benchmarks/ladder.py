"""Every method and every addition from the same start on the embedded task, arm by arm and seed by seed.

    python -m benchmarks.ladder [--seeds 5] [--arms NAME ...] [--runs runs/ladder] [--results benchmarks/results/ladder]
    python -m benchmarks.ladder --table

Each arm and seed is one `mentor-pl fit` and one JSON file under --results; what is there is not run again, so an interrupted
ladder goes on where it was. All arms of a seed come before the next seed. --table only writes `ladder.md` anew, which also
says what is missing. docs/ladder.md says how the arms were tuned.
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

from benchmarks.ladder_arms import ARMS, Arm
from benchmarks.ladder_data import write_chains
from benchmarks.ladder_picture import draw
from benchmarks.ladder_table import read, write_table

VANILLA = "vanilla"
MEASURED_ALONE = (
    "--summary.enabled=false",
    "--export.enabled=false",
    "--recorder.every_n_rounds=0",
    "--checkpoint.save_last=false",
    "--checkpoint.save_top_k=0",
    "--trainer.limit_val_batches=0",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks+=benchmarks.ladder_probe.LadderProbe",
)
"""What a run leaves out, because the probe measures it."""


def run_arm(arm: Arm, seed: int, runs: Path, results: Path) -> None:
    """Train one arm with one seed, unless that was done."""
    target = results / f"{arm.slug}.seed{seed}.json"
    if target.exists():
        return
    first = not (results / f"{VANILLA}.json").exists()
    if any("/data/chains." in argument for argument in arm.arguments):
        write_chains(runs / "data")
    if arm.needs is not None:
        _train_student(next(a for a in ARMS if a.name == arm.needs), seed, runs)
    folder = runs / arm.slug / str(seed)
    if not _fit(arm, seed, runs, folder, [*MEASURED_ALONE, f"--trainer.callbacks.before={str(first).lower()}"]):
        return
    measured = json.loads((folder / "ladder.json").read_text())
    if first:
        _write(results / f"{VANILLA}.json", {"after": measured.pop("before")})
    report = folder / "collapse.jsonl"
    rows = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    signs = [[row["step"], row["sign"], row["found"]] for row in rows]
    _write(target, {"arm": arm.name, "configs": arm.configs, "seed": seed, **measured, "signs": signs})
    print(f"{arm.name}, seed {seed}: {measured['cpu_s']:.0f} CPU-seconds of training", flush=True)
    shutil.rmtree(folder)


def _train_student(arm: Arm, seed: int, runs: Path) -> None:
    folder = runs / "students" / f"{arm.slug}.seed{seed}"
    if not (folder / "student").exists():
        _fit(arm, seed, runs, folder, ["--summary.enabled=false", "--trainer.limit_val_batches=0"])


def _fit(arm: Arm, seed: int, runs: Path, folder: Path, arguments: Sequence[str]) -> bool:
    """Train; return whether that went well."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "mentor_pl", "fit", *(f"--config={name}" for name in arm.configs.split("+"))]
    own = (argument.replace("{runs}", str(runs)).replace("{seed}", str(seed)) for argument in arm.arguments)
    command += [*own, f"--seed_everything={seed}", f"--run_dir={folder}", *arguments]
    log = folder / "log.txt"
    with open(log, "w") as out:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if status:
        print(f"{arm.name}, seed {seed}: ended with status {status}; its output is in {log}", flush=True)
    return not status


def _write(path: Path, value: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value) + "\n")
    partial.rename(path)


def main() -> None:
    """Run what is missing, and write the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="*", help="only these, by their names")
    parser.add_argument("--runs", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/ladder"))
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    known = [arm.name for arm in ARMS]
    if unknown := set(args.arms or ()) - set(known):
        parser.error(f"--arms: there is no {', '.join(sorted(unknown))}; there are {'; '.join(known)}")
    if not args.table:
        for seed in range(args.seeds):
            for arm in ARMS:
                if not args.arms or arm.name in args.arms:
                    run_arm(arm, seed, args.runs.resolve(), args.results)
                    write_table(args.results, args.seeds)
    print(write_table(args.results, args.seeds))
    methods = {arm.name: list(read(args.results, arm).values()) for arm in ARMS if arm.part == ARMS[0].part}
    start = {"starting student": [json.loads((args.results / f"{VANILLA}.json").read_text())]}
    draw(args.results / "ladder.png", start | {name: runs for name, runs in methods.items() if runs})


if __name__ == "__main__":
    main()
