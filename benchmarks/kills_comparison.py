"""What differs between what two runs left: nothing, where one was killed and resumed and the other was not."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

_OF_THE_MACHINE = ("time/", "tokens_per_s")
"""Columns of the log that measure seconds."""


def differences(expected: Path, found: Path, *, ends_by_time: bool) -> list[str]:
    """List what differs: the student's files, the summary, the log without its seconds, the trajectories without theirs.

    Args:
        expected: Folder of the undisturbed run.
        found: Folder of the other one.
        ends_by_time: It ended by time, and the undisturbed one by steps: Lightning counts the last evaluation to the epoch
            before that end there, and after it here.
    """
    out: list[str] = []
    here, there = _student(expected), _student(found)
    out += [f"student/{name}" for name in sorted(here | there) if here.get(name) != there.get(name)]
    if _json(expected / "summary.json") != _json(found / "summary.json"):
        out.append("summary.json")
    out += _first_difference("metrics.csv", *(_log(run, ends_by_time) for run in (expected, found)))
    for file in sorted({f.name for folder in (expected, found) for f in (folder / "trajectories").glob("train.*")}):
        out += _first_difference(file, _trajectories(expected, file), _trajectories(found, file))
    return out


def _student(run: Path) -> dict[str, str]:
    # The card tells of packages and the day
    files = [file for file in sorted((run / "student").glob("*")) if file.name != "README.md"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _json(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


def _log(run: Path, ends_by_time: bool) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = [
            {name: text for name, text in row.items() if text and not any(part in name for part in _OF_THE_MACHINE)}
            for row in csv.DictReader(file)
        ]
    if ends_by_time and rows:
        rows[-1] = {name: text for name, text in rows[-1].items() if name not in ("epoch", "step")}
    return rows


def _trajectories(run: Path, name: str) -> list[Any]:
    file = run / "trajectories" / name
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [_timeless(json.loads(line)) for line in lines]


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if "duration" not in key}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _first_difference(what: str, expected: list[Any], found: list[Any]) -> list[str]:
    for row, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            keys = sorted(key for key in {**one, **other} if one.get(key) != other.get(key))
            shown = "; ".join(f"{key}: {str(one.get(key))[:40]} and {str(other.get(key))[:40]}" for key in keys[:3])
            return [f"{what}, row {row}: {shown}"]
    return [f"{what}: {len(expected)} and {len(found)} rows"] if len(expected) != len(found) else []
