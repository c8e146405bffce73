"""What a kill costs at most: the longest stretch of a run of the default config between two states of `last.ckpt`.

    python -m benchmarks.kills_lost_work [--output lost_work.json] [further arguments of mentor-pl fit]

A kill loses what was done since `last.ckpt` was written; at the worst moment that is a whole stretch. Each is given in wall-clock seconds,
which decide when to save, and in seconds of processor time, which other jobs on the machine do not lengthen.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def stretches(arguments: list[str], folder: Path) -> list[dict[str, float]]:
    """Run the default config and return every stretch, from the run's start to its end.

    Args:
        arguments: Further ones of `mentor-pl fit`.
        folder: Where the run lies.
    """
    last = folder / "run" / "checkpoints" / "last.ckpt"
    command = [
        sys.executable,
        "-m",
        "mentor_pl",
        "fit",
        "--config",
        "mentor",
        "--run_dir",
        str(folder / "run"),
        *arguments,
    ]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    found: list[dict[str, float]] = []
    seen, began, cpu_began, cpu = 0, time.monotonic(), 0.0, 0.0
    while (ended := run.poll()) is None:
        cpu = _cpu_s(run.pid) or cpu
        written = last.stat().st_mtime_ns if last.exists() else 0
        if written != seen:
            now, seen = time.monotonic(), written
            found.append({"wall_s": round(now - began, 1), "cpu_s": round(cpu - cpu_began, 1)})
            began, cpu_began = now, cpu
        time.sleep(0.2)
    if ended:
        raise SystemExit(f"the run failed with status {ended}")
    found.append({"wall_s": round(time.monotonic() - began, 1), "cpu_s": round(cpu - cpu_began, 1)})
    return found


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write the stretches as JSON")
    args, further = parser.parse_known_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        found = stretches(["--trainer.enable_progress_bar", "false", *further], Path(folder))
    result = {"arguments": further, "stretches": found, "longest_cpu_s": max(s["cpu_s"] for s in found)}
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
