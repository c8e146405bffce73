"""The table of the ladder, from the files of its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student_t

from benchmarks.ladder_arms import ARMS, Arm

IN_DOMAIN = "id"
Run = Mapping[str, Any]
"""One file: `after` by split and metric, `curve` of [updates, CPU-seconds, sampled tokens, accuracy in domain]."""


def half_width(values: Sequence[float]) -> float | None:
    """Return the half-width of the 95 % interval of a mean, by Student's t; None for less than two values."""
    if len(values) < 2:
        return None
    return float(student_t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def out_of_domain(run: Run, metric: str) -> float:
    """Return a metric's mean over all splits but the one in domain."""
    return fmean(values[metric] for split, values in run["after"].items() if split != IN_DOMAIN)


def reached(run: Run, share: float = 0.9) -> tuple[int, float, int] | None:
    """Return updates, CPU-seconds and sampled tokens after which the curve first has a share of its final accuracy in domain.

    The final accuracy is that of the finished student on the same problems; None where the curve never gets there.
    """
    wanted = share * run["after"][IN_DOMAIN]["accuracy"]
    return next(((step, cpu_s, tokens) for step, cpu_s, tokens, accuracy in run["curve"] if accuracy >= wanted), None)


def by_problem(run: Run, other: Run) -> list[int]:
    """Return for each problem out of domain 1 where only the first run solves it, -1 where only the other does, else 0."""
    pairs = [
        (a, b)
        for split, values in run["after"].items()
        if split != IN_DOMAIN
        for a, b in zip(values["solved"], other["after"][split]["solved"], strict=True)
    ]
    return [int(a) - int(b) for a, b in pairs]


def over_problems(pairs: Sequence[tuple[Run, Run]]) -> float:
    """Return the half-width of the 95 % interval of a paired difference over problems, each averaged over the seeds first."""
    means = [fmean(of_seeds) for of_seeds in zip(*(by_problem(a, b) for a, b in pairs), strict=True)]
    return half_width(means) or 0.0


def read(results: Path, arm: Arm) -> dict[int, Run]:
    """Return the runs of an arm by their seeds."""
    runs = (json.loads(path.read_text()) for path in sorted(results.glob(f"{arm.slug}.seed*.json")))
    return {run["seed"]: run for run in runs}


def _shown(values: Sequence[float]) -> str:
    width = half_width(values)
    return f"{fmean(values):.3f}" + ("" if width is None else f" ± {width:.3f}")


_HEADER = (
    *("arm", "seeds", "in", "out", "`long`", "tools in", "tools out", "similarity out"),
    *("out, less its base", "updates to .9", "CPU-s to .9", "tokens to .9"),
)


def _row(arm: Arm, runs: Mapping[int, Run], base: Mapping[int, Run]) -> list[str]:
    cells = [arm.name, str(len(runs))]
    cells.append(_shown([run["after"][IN_DOMAIN]["accuracy"] for run in runs.values()]))
    cells.append(_shown([out_of_domain(run, "accuracy") for run in runs.values()]))
    cells.append(_shown([run["after"]["long"]["accuracy"] for run in runs.values()]))
    cells.append(_shown([run["after"][IN_DOMAIN]["tool_match"] for run in runs.values()]))
    cells += [_shown([out_of_domain(run, m) for run in runs.values()]) for m in ("tool_match", "tool_similarity")]
    pairs = [(runs[seed], base[seed]) for seed in runs if seed in base]
    cells.append("–" if not pairs or runs is base else _difference(pairs))
    there = [point for run in runs.values() if (point := reached(run)) is not None]
    if not there:
        return [*cells, "–", "–", "–"]
    steps, cpu_s, tokens = (fmean(column) for column in zip(*there, strict=True))
    return [*cells, f"{steps:.0f}", f"{cpu_s:.0f}", f"{tokens / 1000:.0f}k"]


def _difference(pairs: Sequence[tuple[Run, Run]]) -> str:
    differences = [out_of_domain(a, "accuracy") - out_of_domain(b, "accuracy") for a, b in pairs]
    seeds = half_width(differences)
    shown = f"{fmean(differences):+.3f} (problems ± {over_problems(pairs):.3f}"
    return shown + ("" if seeds is None else f", seeds ± {seeds:.3f}") + ")"


_NOTES = """Accuracy in domain (`id`) and out of it (mean of five splits, 100 problems each); exact agreement with the teacher's
set of tools; similarity of tool use. Mean ± half-width of the 95 % interval over seeds; no interval where there is one
seed. "out, less its base" is the paired difference to the base of the part (MENTOR exact, or GRPO with four steps), with
its half-width over the problems and, from two seeds on, over the seeds. The last columns: updates, CPU-seconds of training (evaluation left
out) and sampled tokens until the accuracy in domain, looked at every 8 updates, first has .9 of its final value; means over
the seeds. The CPU-seconds are of a shared core, and differ by a third from day to day. One file per arm and seed has the rest."""


def write_table(results: Path, seeds: int) -> str:
    """Write `ladder.md` from what is there; return its text."""
    runs = {arm.name: read(results, arm) for arm in ARMS}
    lines = [*_NOTES.splitlines(), ""]
    for part in dict.fromkeys(arm.part for arm in ARMS):
        arms = [arm for arm in ARMS if arm.part == part and runs[arm.name]]
        if not arms:
            continue
        lines += [f"**{part[0].upper()}{part[1:]}**", "", _line(_HEADER), "|" + " --- |" * len(_HEADER)]
        if (vanilla := results / "vanilla.json").exists() and part == ARMS[0].part:
            start = Arm(name="starting student", part=part, configs="")
            lines.append(_line(_row(start, {0: {**json.loads(vanilla.read_text()), "curve": []}}, {})))
        lines += [_line(_row(arm, runs[arm.name], runs[arm.against])) for arm in arms]
        lines.append("")
    lines += ["**Accuracy by split**", "", *_by_split(runs), ""]
    missing = [f"{a.name} ({seeds - len(runs[a.name])})" for a in ARMS if len(runs[a.name]) < seeds]
    wanted = f"of {len(ARMS)} arms with {seeds} seeds each"
    lines.append(
        f"Runs that are missing, {wanted}: {', '.join(missing)}." if missing else f"Nothing is missing {wanted}."
    )
    text = "\n".join(lines) + "\n"
    (results / "ladder.md").write_text(text)
    return text


def _by_split(runs: Mapping[str, Mapping[int, Run]]) -> list[str]:
    there = {name: list(of_seeds.values()) for name, of_seeds in runs.items() if of_seeds}
    if not there:
        return []
    splits = list(next(iter(there.values()))[0]["after"])
    lines = [_line(("arm", *splits)), "|" + " --- |" * (len(splits) + 1)]
    for name, of_seeds in there.items():
        lines.append(_line((name, *(_shown([run["after"][s]["accuracy"] for run in of_seeds]) for s in splits))))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
