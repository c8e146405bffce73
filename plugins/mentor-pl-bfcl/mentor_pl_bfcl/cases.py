"""The leaderboard's cases, as the package ships them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mentor_pl.errors import ConfigError
from mentor_pl_bfcl.package import data_folder

_PREFIX = "BFCL_v4_"
SINGLE_TURN = (
    *("simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple", "irrelevance"),
    *("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance"),
)
MULTI_TURN = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
CATEGORIES = (*SINGLE_TURN, *MULTI_TURN)
"""The categories that can be checked here; memory, web search and format sensitivity need what the package alone does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case.

    Attributes:
        case_id: Its id, unique over all categories.
        category: One of `CATEGORIES`.
        row: As it stands in the package's file: `question`, `function` or `involved_classes` and
            `initial_config`.
        truth: What the package accepts. Single-turn: for each call, function -> argument ->
            accepted values. Multi-turn: for each turn of the user, calls in Python. Empty where no
            call is right.
    """

    case_id: str
    category: str
    row: Mapping[str, Any]
    truth: list[Any]

    @property
    def multi_turn(self) -> bool:
        """Whether the user speaks several times, and tools have state."""
        return self.category in MULTI_TURN


@functools.cache
def cases_of(category: str) -> Mapping[str, Case]:
    """Return the cases of a category by id, in the package's order.

    Raises:
        ConfigError: There is no such category, or the package is not installed.
    """
    if category not in CATEGORIES:
        raise ConfigError(f"BFCL has no category {category!r} that can be checked; there are {', '.join(CATEGORIES)}")
    rows = _rows(f"{_PREFIX}{category}.json")
    answers = f"possible_answer/{_PREFIX}{category}.json"
    truths = {row["id"]: row["ground_truth"] for row in _rows(answers)} if (data_folder() / answers).exists() else {}
    return {
        row["id"]: Case(case_id=row["id"], category=category, row=row, truth=truths.get(row["id"], [])) for row in rows
    }


@functools.cache
def _all_cases() -> Mapping[str, Case]:
    return {case_id: case for category in CATEGORIES for case_id, case in cases_of(category).items()}


def find_case(case_id: str) -> Case | None:
    """Return a case by its id; None where there is none."""
    return _all_cases().get(case_id)


def _rows(name: str) -> list[dict[str, Any]]:
    with (data_folder() / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
