"""Calls per second of the tool backends, beside a fresh `python -c` per call and beside `exec` in the trainer.

    python -m benchmarks.tools_throughput [--rounds 5] [--output throughput.json]

The contestants take turns within each round, so that a noisy machine is noisy for all; the fastest tenth of the calls (p10) tells what they
cost where a core was free, calls per second what they came to. Typed functions run with trainer and worker on one
core, with validation, time limit and output cap on.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mentor_pl.messages import ToolCall
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.toolbox import ToolBox

_CODE = "total = sum(i * i for i in range({n}))\nprint(total)"


def _expected(n: int) -> str:
    return str(sum(i * i for i in range(n)))


def _in_process(n: int) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(compile(_CODE.format(n=n), "<code>", "exec"), {})
    return shown.getvalue().strip()


def _fresh_python(n: int) -> str:
    done = subprocess.run([sys.executable, "-c", _CODE.format(n=n)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _time_calls(run: Callable[[int], str], calls: int, threads: int = 1) -> list[float]:
    """Return the seconds of each call; with several threads, the wall-clock seconds shared out among the calls."""

    def one(n: int) -> float:
        start = time.perf_counter()
        assert run(n) == _expected(n)
        return time.perf_counter() - start

    if threads == 1:
        return [one(n) for n in range(calls)]
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(calls)))
    return [(time.perf_counter() - start) / calls] * calls


@contextlib.contextmanager
def _interpreter(*, workers: int, keep_variables: bool = False) -> Generator[Callable[[int], str]]:
    backend = PythonInterpreter(workers=workers, keep_variables=keep_variables)
    with ToolBox([backend]).session() as session:
        call = lambda n: session(ToolCall(call_id="1", name="python", arguments={"code": _CODE.format(n=n)})).content  # noqa: E731
        call(0)
        yield call
    backend.close()


def interpreters(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Time what can run a piece of Python; milliseconds and calls per second of each."""
    cores = os.cpu_count() or 1
    times: dict[str, list[float]] = {}
    with (
        _interpreter(workers=1) as apart,
        _interpreter(workers=1, keep_variables=True) as session,
        _interpreter(workers=cores) as pooled,
    ):
        contestants: list[tuple[str, Callable[[int], str], int, int]] = [
            ("exec in the trainer", _in_process, calls, 1),
            ("fresh python -c", _fresh_python, max(5, calls // 10), 1),
            (f"fresh python -c, {cores} at once", _fresh_python, max(5, calls // 10), cores),
            ("PythonInterpreter", apart, calls, 1),
            (f"PythonInterpreter, {cores} at once", pooled, calls, cores),
            ("PythonInterpreter, keep_variables", session, calls, 1),
        ]
        for _ in range(rounds):
            for name, run, number, threads in contestants:
                times.setdefault(name, []).extend(_time_calls(run, number, threads))
    return {
        name: {
            "calls_per_s": round(len(taken) / sum(taken), 1),
            "p10_ms": round(statistics.quantiles(taken, n=10)[0] * 1e3, 3),
            "p50_ms": round(statistics.median(taken) * 1e3, 3),
            "p95_ms": round(statistics.quantiles(taken, n=20)[-1] * 1e3, 3),
        }
        for name, taken in times.items()
    }


def functions_on_one_core(rounds: int, calls: int) -> dict[str, float]:
    """Time the arithmetic tools with everything on one core: best and median round, in calls per second."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        backend = PythonFunctions("mentor_pl.tools.arithmetic", workers=1)
        rates: list[float] = []
        with ToolBox([backend]).session() as session:
            for _ in range(rounds):
                start = time.perf_counter()
                for n in range(calls):
                    assert session(ToolCall(call_id="1", name="add", arguments={"a": n, "b": 1})).content == str(n + 1)
                rates.append(calls / (time.perf_counter() - start))
        backend.close()
    finally:
        os.sched_setaffinity(0, allowed)
    return {"best_calls_per_s": round(max(rates)), "median_calls_per_s": round(statistics.median(rates))}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    functions = functions_on_one_core(args.rounds, 10 * args.calls)
    rows = interpreters(args.rounds, args.calls)
    print(
        f"typed functions, one core: {functions['median_calls_per_s']} calls/s (best round {functions['best_calls_per_s']})\n"
    )
    fresh = rows["fresh python -c"]
    print(f"{'':36} {'calls/s':>9} {'p10 ms':>8} {'p50 ms':>8} {'p95 ms':>8}   times a fresh python -c: calls/s, p10")
    for name, row in rows.items():
        times = row["calls_per_s"] / fresh["calls_per_s"], fresh["p10_ms"] / row["p10_ms"]
        figures = f"{row['calls_per_s']:>9} {row['p10_ms']:>8} {row['p50_ms']:>8} {row['p95_ms']:>8}"
        print(f"{name:36} {figures} {times[0]:>33.1f} {times[1]:>5.1f}")
    print(f"\nload average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if args.output:
        args.output.write_text(
            json.dumps({"functions_one_core": functions, "interpreters": rows, "load": os.getloadavg()[0]}, indent=2)
            + "\n"
        )


if __name__ == "__main__":
    main()
