"""Tables of what has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.evidence.outcomes import Outcome, bootstrap_interval, means, seed_interval
from benchmarks.evidence.picture import draw
from benchmarks.evidence.plan import Plan

MEASURES = ("success", "tool_match", "similarity", "calls", "refusals")
PARTS = ("in domain", "out of domain")
_WHILE_TRAINING = "train/score/correct"
Results = Mapping[str, Mapping[int, Any]]
"""The JSON of each result by its arm's title and its seed."""


def write_report(folder: Path, plan: Plan, results: Results, missing: Sequence[str]) -> None:
    """Write `<plan>.md`, `<plan>.json` and, where matplotlib is there, `<plan>.png`; print the tables, and what is missing."""
    ended = {title: seeds for title, seeds in results.items() if seeds}
    summary = {title: summarise(plan, seeds) for title, seeds in ended.items()}
    differences = {part: _differences(ended, splits) for part, splits in _parts(plan).items()}
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(plan, ended, summary, differences, missing)
    (folder / f"{plan.name}.md").write_text(text)
    written = {"summary": summary, "differences": differences, "missing": missing}
    (folder / f"{plan.name}.json").write_text(json.dumps(written, indent=1) + "\n")
    print(text, flush=True)
    if summary:
        draw(folder / f"{plan.name}.png", summary, missing)


def summarise(plan: Plan, seeds: Mapping[int, Any]) -> dict[str, dict[str, Any]]:
    """Return mean and interval of every measure, by split, in domain and out of domain.

    A part's mean is the mean of its splits. The interval is that over seeds where there are several; that of one seed is drawn over
    cases, and only for shares.
    """
    out: dict[str, dict[str, Any]] = {}
    for label, splits in {**{split: (split,) for split in plan.splits}, **_parts(plan)}.items():
        runs = [_of_splits(result, splits) for result in seeds.values()]
        out[label] = {}
        for measure in MEASURES:
            values = [fmean(means(outcomes)[measure] for outcomes in run.values()) for run in runs]
            interval = seed_interval(values)
            if interval is None and measure in ("success", "tool_match"):
                interval = bootstrap_interval([[getattr(one, measure) for one in of] for of in runs[0].values()])
            out[label][measure] = {"mean": fmean(values), "values": values, "interval": interval}
    curves = [result["training"].get(_WHILE_TRAINING, []) for result in seeds.values()]
    values = [fmean(curve[len(curve) // 2 :]) for curve in curves if curve]
    if values:
        out["while training"] = {
            "success": {"mean": fmean(values), "values": values, "interval": seed_interval(values)}
        }
    return out


def _parts(plan: Plan) -> dict[str, Sequence[str]]:
    return {part: splits for part, splits in zip(PARTS, (plan.in_domain, plan.out_of_domain), strict=True) if splits}


def _of_splits(result: Any, splits: Sequence[str]) -> dict[str, list[Outcome]]:
    return {split: [outcome_from_row(row) for row in result["outcomes"][split].values()] for split in splits}


def outcome_from_row(row: Mapping[str, Any]) -> Outcome:
    """Read what `asdict` wrote."""
    return Outcome(
        success=row["success"], tool_match=row["tool_match"], calls=tuple(row["calls"]), wanted=tuple(row["wanted"])
    )


def _differences(results: Results, splits: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return each arm's success less that of each other arm, case by case, with the interval over cases.

    Seeds that both have are averaged case by case first.
    """
    out: dict[str, dict[str, Any]] = {}
    for title, mine in results.items():
        for other, its in results.items():
            seeds = sorted(mine.keys() & its.keys())
            if title == other or not seeds:
                continue
            pairs = [
                [
                    fmean(_success(mine[seed], split, case) - _success(its[seed], split, case) for seed in seeds)
                    for case in mine[seeds[0]]["outcomes"][split]
                ]
                for split in splits
            ]
            mean = fmean(fmean(values) for values in pairs)
            out.setdefault(title, {})[other] = {"mean": mean, "interval": bootstrap_interval(pairs)}
    return out


def _success(result: Any, split: str, case: str) -> float:
    return float(result["outcomes"][split][case]["success"])


def markdown(
    plan: Plan,
    results: Results,
    summary: Mapping[str, Any],
    differences: Mapping[str, Mapping[str, Any]],
    missing: Sequence[str],
) -> str:
    """Return the tables as Markdown."""
    lines = [
        "Made by `python -m benchmarks.evidence`. Intervals are of 95 %: over seeds, or over cases for one seed.",
        "",
    ]
    if missing:
        lines += [f"**Not all of it: {len(missing)} runs are missing** ({', '.join(missing)}).", ""]
    parts = list(_parts(plan))
    shown = [(measure, part) for measure in ("success", "tool_match") for part in parts]
    lines += _table(
        ["arm", "seeds", *(f"{_words(measure)}, {part}" for measure, part in shown), "success while training"],
        [
            [
                title,
                str(len(results[title])),
                *(_cell(row[part][measure]) for measure, part in shown),
                _cell(row["while training"]["success"]) if "while training" in row else "–",
            ]
            for title, row in summary.items()
        ],
    )
    for part, rows in differences.items():
        lines += [f"Success {part}, row less column, case by case:", ""]
        lines += _table(
            ["arm", *summary],
            [
                [title, *(_cell(rows[title][other]) if other in rows[title] else "–" for other in summary)]
                for title in rows
            ],
        )
    for measure in MEASURES:
        lines += [f"{_words(measure).capitalize()} by split:", ""]
        cells = {
            title: [f"{row[split][measure]['mean']:.2f}" for split in plan.splits] for title, row in summary.items()
        }
        lines += _table(["arm", *plan.splits], [[title, *row] for title, row in cells.items()])
    return "\n".join(lines)


def _words(measure: str) -> str:
    return measure.replace("_", " ")


def _cell(value: Mapping[str, Any]) -> str:
    if value["interval"] is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} ({value['interval'][0]:.2f} to {value['interval'][1]:.2f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [*("| " + " | ".join(cells) + " |" for cells in lines), ""]
