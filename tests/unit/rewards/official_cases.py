"""The 200 trajectories that the authors' released code scored under five settings, as references and trajectories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mentor_pl.files import reference_from_row, trajectory_from_row
from mentor_pl.reference import Reference
from mentor_pl.tools import arithmetic
from mentor_pl.trajectory import Trajectory

PATH = Path(__file__).parents[2] / "data" / "official_reward_cases.jsonl"
PRESETS = {"MENTOR": "mentor", "ANY_OVERLAP": "any_overlap", "NO_MATCH": "no_match", "F1": "f1", "SPARSE": "sparse"}


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]


def reference_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "prompt": f"Problem {row['id']}",
        "answer": row["answer"],
        "tools": list(arithmetic.__all__),
        "tool_calls": row["teacher_tools"],
    }


def trajectory_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"reference_id": str(row["id"]), "messages": row["messages"], "finished": row["finished"]}


def case(row: dict[str, Any]) -> tuple[Reference, Trajectory]:
    where = f"case {row['id']}"
    return reference_from_row(reference_row(row), where), trajectory_from_row(trajectory_row(row), where)
