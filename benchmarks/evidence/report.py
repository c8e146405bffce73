"""Tables of what has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.evidence.outcomes import Outcome, bootstrap_interval, means, seed_interval
from benchmarks.evidence.plan import Plan

MEASURES = ("success", "tool_match", "similarity", "calls", "refusals")
Results = Mapping[str, Mapping[int, Any]]
"""The JSON of each result by its arm's title and its seed."""


def write_report(folder: Path, plan: Plan, results: Results, missing: Sequence[str]) -> None:
    """Write `<plan>.md` and `<plan>.json`; print the table, and what is missing."""
    summary = {title: summarise(plan, seeds) for title, seeds in results.items() if seeds}
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(plan, results, summary, missing)
    (folder / f"{plan.name}.md").write_text(text)
    (folder / f"{plan.name}.json").write_text(json.dumps({"summary": summary, "missing": missing}, indent=1) + "\n")
    print(text, flush=True)


def summarise(plan: Plan, seeds: Mapping[int, Any]) -> dict[str, dict[str, Any]]:
    """Return mean and interval of every measure, by split, in domain and out of domain.

    A part's mean is the mean of its splits. The interval is that over seeds where there are several; that of one seed is drawn over
    problems, and only for shares.
    """
    out: dict[str, dict[str, Any]] = {}
    groups = {split: (split,) for split in plan.splits}
    for label, splits in {**groups, "in domain": plan.in_domain, "out of domain": plan.out_of_domain}.items():
        if not splits:
            continue
        runs = [_of_splits(result, splits) for result in seeds.values()]
        out[label] = {}
        for measure in MEASURES:
            values = [fmean(means(outcomes)[measure] for outcomes in run.values()) for run in runs]
            over_seeds = seed_interval(values)
            within = (
                None if over_seeds or measure not in ("success", "tool_match") else _over_problems(runs[0], measure)
            )
            out[label][measure] = {"mean": fmean(values), "values": values, "interval": over_seeds or within}
    return out


def _of_splits(result: Any, splits: Sequence[str]) -> dict[str, list[Outcome]]:
    return {split: [outcome_from_row(row) for row in result["outcomes"][split].values()] for split in splits}


def outcome_from_row(row: Mapping[str, Any]) -> Outcome:
    """Read what `asdict` wrote."""
    return Outcome(
        success=row["success"], tool_match=row["tool_match"], calls=tuple(row["calls"]), wanted=tuple(row["wanted"])
    )


def _over_problems(run: Mapping[str, Sequence[Outcome]], measure: str) -> tuple[float, float]:
    return bootstrap_interval([[getattr(one, measure) for one in outcomes] for outcomes in run.values()])


def markdown(plan: Plan, results: Results, summary: Mapping[str, Any], missing: Sequence[str]) -> str:
    """Return the tables as Markdown."""
    lines = [
        "Made by `python -m benchmarks.evidence`. Intervals are of 95 %: over seeds, or over problems for one seed.",
        "",
    ]
    if missing:
        lines += [f"**Not all of it: {len(missing)} runs are missing** ({', '.join(missing)}).", ""]
    labels = ("in domain", "out of domain")
    lines += _table(
        ["arm", "seeds", *(f"{m.replace('_', ' ')}, {label}" for m in ("success", "tool_match") for label in labels)],
        [
            [
                title,
                str(len(results[title])),
                *(_cell(row[label][m]) for m in ("success", "tool_match") for label in labels),
            ]
            for title, row in summary.items()
        ],
    )
    for measure in MEASURES:
        lines += [f"{measure.replace('_', ' ').capitalize()} by split:", ""]
        lines += _table(
            ["arm", *plan.splits],
            [
                [title, *(f"{row[split][measure]['mean']:.2f}" for split in plan.splits)]
                for title, row in summary.items()
            ],
        )
    return "\n".join(lines)


def _cell(value: Mapping[str, Any]) -> str:
    if value["interval"] is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} ({value['interval'][0]:.2f} to {value['interval'][1]:.2f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [*("| " + " | ".join(cells) + " |" for cells in lines), ""]
