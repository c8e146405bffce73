"""`mentor-pl compare`: the same start, several methods, several seeds; a table with intervals and the paper's picture."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from scipy.stats import t as student_t

from mentor_pl.cli.parser import call
from mentor_pl.errors import ConfigError, MentorError
from mentor_pl.evaluation.columns import columns, headline

Run = dict[str, dict[str, float]]
"""A run's metrics by split and name."""


def compare(
    configs: dict[str, str],
    seeds: int = 3,
    jobs: int = 1,
    threads: int = 1,
    output: Path = Path("runs/compare"),
    in_domain: str | None = None,
    arguments: list[str] | None = None,
) -> None:
    """Train by several methods from the same start and compare what they reach.

    Each run is an ordinary `mentor-pl fit` in a folder of its own; one whose summary is there
    already is not run again, so an interrupted comparison goes on where it was. The vanilla row is
    the student before training; methods that start differently, one from 4-bit weights and one from
    full ones for example, have one each.

    Args:
        configs: Config file of each method by its name, e.g. '{"MENTOR": "mentor", "sparse RL":
            "sparse"}'; overlays follow behind a `+`: "sft+my_overlay.yaml".
        seeds: Runs per method, with seeds 0, 1, ...
        jobs: Runs at the same time.
        threads: CPU threads of each run.
        output: Folder for the runs, `compare.json`, `compare.md` and `compare.png`.
        in_domain: The split that counts as in domain, by default `id` or else the first one; the
            mean of all others is out of domain.
        arguments: Further arguments for every `mentor-pl fit`.
    """
    if seeds < 1 or not configs:
        raise ConfigError(
            f"compare: {len(configs)} configs and {seeds} seeds leave nothing to run; give at least one of each"
        )
    output.mkdir(parents=True, exist_ok=True)
    plan = [(name, seed, output / _slug(name) / str(seed)) for seed in range(seeds) for name in configs]
    runs = _Runs()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(lambda run: _fit(runs, run[2], configs[run[0]], run[1], threads, arguments or []), plan))
        except (KeyboardInterrupt, SystemExit):
            runs.end()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    results = _collect(plan)
    splits = list(next(iter(results.values()))[0])
    in_domain = in_domain or ("id" if "id" in splits else splits[0])
    if in_domain not in splits:
        raise ConfigError(f"compare: in_domain is {in_domain!r}; the splits are {', '.join(splits)}")
    others = [split for split in splits if split != in_domain]
    summary = {name: _summarise(runs, splits, in_domain, others) for name, runs in results.items()}
    (output / "compare.json").write_text(json.dumps({"summary": summary, "runs": results}, indent=1) + "\n")
    cells = _cells(results, splits, _success_terms(plan))
    first = headline(row for runs in results.values() for run in runs for row in run.values())
    (output / "compare.md").write_text(_markdown(summary, cells, first, seeds))
    Console().print(_table(summary, cells))
    if _plot(summary, first, output / "compare.png"):
        print(f"The picture is {output / 'compare.png'}, the table {output / 'compare.md'}")


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


class _Runs:
    """The runs that are under way, as processes."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._ended = False
        self._lock = threading.Lock()

    def run(self, command: Sequence[str], out: IO[str], environment: Mapping[str, str]) -> int:
        """Return with what status a command ended."""
        with self._lock:
            if self._ended:
                return -signal.SIGTERM
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
            self._processes.add(process)
        return process.wait()

    def end(self) -> None:
        """Start nothing more, and let what is under way save a checkpoint and end."""
        with self._lock:
            self._ended = True
        for process in self._processes:
            process.terminate()


def _fit(runs: _Runs, folder: Path, config: str, seed: int, threads: int, arguments: Sequence[str]) -> None:
    if (folder / "summary.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mentor_pl", "fit", *(f"--config={file}" for file in config.split("+"))]
    command += [f"--seed_everything={seed}", f"--run_dir={folder}", "--trainer.enable_progress_bar=false", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    log = folder / "log.txt"
    with open(log, "w") as out:
        code = runs.run(command, out, environment)
    if code or not (folder / "summary.json").exists():
        raise MentorError(
            f"compare: the run of {config} with seed {seed} ended with status {code}; its output is in {log}"
        )
    print(f"{folder} done", flush=True)


def _collect(plan: Sequence[tuple[str, int, Path]]) -> dict[str, list[Run]]:
    before: dict[str, list[Run]] = {}
    after: dict[str, list[Run]] = {}
    teacher: list[Run] = []
    for name, _, folder in plan:
        summary = json.loads((folder / "summary.json").read_text())
        before.setdefault(name, []).append(summary["before"])
        after.setdefault(name, []).append(summary["after"])
        teacher = [summary["teacher"]]
    return {**_starts(before), **after, "teacher": teacher}


def _success_terms(plan: Sequence[tuple[str, int, Path]]) -> dict[str, str]:
    """Return, by split, the term that the success is taken from; only where it is the same for all methods."""
    named = [json.loads((folder / "summary.json").read_text()).get("success_terms", {}) for _, _, folder in plan]
    return {split: term for split, term in named[0].items() if all(other.get(split) == term for other in named)}


def _starts(before: dict[str, list[Run]]) -> dict[str, list[Run]]:
    """Return a row of each different start, with the methods that it is the start of."""
    rows: list[tuple[list[Run], list[str]]] = []
    for name, runs in before.items():
        # Greedy evaluation of one start: the same for every seed, and so one measurement.
        start = runs[:1] if all(run == runs[0] for run in runs) else runs
        methods = next((methods for other, methods in rows if other == start), None)
        if methods is None:
            rows.append((start, [name]))
        else:
            methods.append(name)
    if len(rows) == 1:
        return {"vanilla": rows[0][0]}
    return {f"vanilla ({', '.join(methods)})": start for start, methods in rows}


def _summarise(runs: Sequence[Run], splits: Sequence[str], in_domain: str, others: Sequence[str]) -> dict[str, Any]:
    """Mean and half-width of the 95 % interval over seeds, for every split, in domain and out of domain."""
    out: dict[str, Any] = {}
    metrics = dict.fromkeys(name for run in runs for row in run.values() for name in row if "/interval" not in name)
    for label, members in {**{s: [s] for s in splits}, "in domain": [in_domain], "out of domain": list(others)}.items():
        out[label] = {}
        for metric in metrics:
            measured = [[run[s][metric] for s in members if metric in run.get(s, {})] for run in runs]
            values = [fmean(row) for row in measured if row]
            out[label][metric] = {"mean": fmean(values), "interval": _half_width(values)} if values else None
    return out


def _half_width(values: Sequence[float]) -> float | None:
    """Half-width of the 95 % confidence interval of a mean, by Student's t; None for a single value."""
    n = len(values)
    if n < 2:
        return None
    return float(student_t.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n)


def _cells(
    results: dict[str, list[Run]], splits: Sequence[str], success_terms: dict[str, str]
) -> dict[tuple[str, str], str]:
    """Return the table's columns, as (label, metric), with their titles: what the methods' splits have."""
    titles = columns(*(run for runs in results.values() for run in runs), success_terms=success_terms)
    titles = {name: title for name, title in titles.items() if name not in ("calls_per_task", "unknown_tool_rate")}
    labels = {"in domain": "in", **({"out of domain": "out"} if len(splits) > 1 else {})}
    cells = {(label, m): f"{title} {short}" for m, title in titles.items() for label, short in labels.items()}
    if any("unknown_tool_rate" in row for runs in results.values() for run in runs for row in run.values()):
        cells[list(labels)[-1], "unknown_tool_rate"] = f"unknown tools {list(labels.values())[-1]}"
    return cells


def _rows(summary: dict[str, Any], cells: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [[name, *(_shown(row[label].get(metric)) for label, metric in cells)] for name, row in summary.items()]


def _shown(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "–"
    return f"{cell['mean']:.3f}" + ("" if cell["interval"] is None else f" ± {cell['interval']:.3f}")


def _table(summary: dict[str, Any], cells: dict[tuple[str, str], str]) -> Table:
    table = Table("method", *cells.values(), title="Mean ± 95 % interval over seeds", title_justify="left")
    for row in _rows(summary, cells):
        table.add_row(*row)
    return table


def _markdown(summary: dict[str, Any], cells: dict[tuple[str, str], str], first: str, seeds: int) -> str:
    lines = [f"Mean ± half-width of the 95 % confidence interval over {seeds} seeds.", ""]
    lines += ["| " + " | ".join(("method", *cells.values())) + " |", "|" + " --- |" * (len(cells) + 1)]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(summary, cells)]
    splits = [label for label in next(iter(summary.values())) if label not in ("in domain", "out of domain")]
    lines += [
        "",
        f"{first.capitalize()} by split:",
        "",
        "| method | " + " | ".join(splits) + " |",
        "|" + " --- |" * (len(splits) + 1),
    ]
    lines += [f"| {n} | " + " | ".join(_shown(row[s].get(first)) for s in splits) + " |" for n, row in summary.items()]
    return "\n".join(lines) + "\n"


def _plot(summary: dict[str, Any], first: str, path: Path) -> bool:
    """Draw accuracy, or success, against similarity of tool use to the teacher, as in the paper's figure."""
    if all(row["in domain"].get("tool_similarity") is None for row in summary.values()):
        print("no picture: no split has a teacher's solution to compare the use of tools with")
        return False
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is missing; `pip install mentor-pl[plot]`")
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 5), sharey=True)
    for panel, label in zip(panels, ("in domain", "out of domain"), strict=True):
        for name, row in summary.items():
            x, y = row[label].get("tool_similarity"), row[label].get(first)
            if x is None or y is None:
                continue
            panel.errorbar(
                x["mean"],
                y["mean"],
                xerr=x["interval"],
                yerr=y["interval"],
                fmt="o",
                capsize=3,
                label=name,
                markersize=8,
            )
        panel.set(title=label, xlabel="similarity of tool use to the teacher (1 - JSD, bits)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(first)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def main(argv: list[str]) -> None:
    """Run `mentor-pl compare`."""
    call(compare, argv, prog="mentor-pl compare")
