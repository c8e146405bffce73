"""What a run's folder holds, read for a report."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mentor_pl.embedded import resolve
from mentor_pl.environments.settings import training_settings
from mentor_pl.errors import DataFileError, MentorError
from mentor_pl.files import read_references
from mentor_pl.reference import Reference

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run's folder.

    Attributes:
        folder: The folder.
        config: Every setting, resolved.
        summary: Metrics before, after and of the teacher, by split and name, and of each split the
            term that its success is taken from; empty where the run did not end.
        curves: Points (step, value) of every logged metric, by its name.
        trajectories: The shown ones, in order of step; each with its step, reward and scores.
        references: Those of the shown trajectories, by id; empty where their file is gone.
    """

    folder: Path
    config: Row
    summary: dict[str, Any]
    curves: dict[str, list[tuple[float, float]]]
    trajectories: list[Row]
    references: dict[str, Reference]


def read_run(folder: Path, *, max_trajectories: int) -> Run:
    """Read a run's folder.

    Args:
        folder: As `mentor-pl fit` leaves it; what is missing there is missing in the report.
        max_trajectories: How many trajectories to keep, evenly over the run's steps, whole groups
            at a time.

    Raises:
        DataFileError: It is no run's folder.
    """
    folder = folder.resolve()
    if not (folder / "config.yaml").is_file():
        raise DataFileError(f"{folder} has no config.yaml; give the folder of a run, for example runs/last")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    summary = folder / "summary.json"
    trajectories = _trajectories(sorted((folder / "trajectories").glob("train.rank*.jsonl")), max_trajectories)
    return Run(
        folder=folder,
        config=config,
        summary=json.loads(summary.read_text()) if summary.is_file() else {},
        curves=_curves(folder),
        trajectories=trajectories,
        references=_references(config, {row["reference_id"] for row in trajectories}),
    )


def _curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Read the log; where the run was resumed, its earlier logs up to where the next one begins."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    end = float("inf")
    for path in [folder / "metrics.csv", *sorted(folder.glob("metrics.*.csv"), reverse=True)]:
        if not path.is_file():
            continue
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["step"]) < end]
        for row in rows:
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    curves[name].append((float(row["step"]), float(value)))
        end = min((float(row["step"]) for row in rows), default=end)
    return {name: sorted(points, key=lambda point: point[0]) for name, points in curves.items()}


def _trajectories(paths: list[Path], limit: int) -> list[Row]:
    """Keep whole groups of the first, the last, and evenly spread steps between."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    places: list[tuple[Path, int]] = []
    for path in paths:
        offset = 0
        with open(path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # a run that is being written may end in half a line
                    row = json.loads(line)
                    groups[(row.get("step", 0), row["reference_id"])].append(len(places))
                    places.append((path, offset))
                offset += len(line)
    keys = sorted(groups)
    size = max((len(members) for members in groups.values()), default=1)
    count = min(len(keys), max(1, limit // size))
    chosen = sorted({round(i * (len(keys) - 1) / max(count - 1, 1)) for i in range(count)}) if keys else []
    return [_row_at(*places[index]) for position in chosen for index in groups[keys[position]]]


def _row_at(path: Path, offset: int) -> Row:
    with open(path, "rb") as file:
        file.seek(offset)
        return json.loads(file.readline())


def _references(config: Row, wanted: set[str]) -> dict[str, Reference]:
    references: list[Reference] = []
    for environment in training_settings(config.get("data", {})):
        with suppress(MentorError, OSError):  # the report does without the teacher's side
            references += read_references(resolve(environment.source))
    return {r.reference_id: r for r in references if r.reference_id in wanted}
