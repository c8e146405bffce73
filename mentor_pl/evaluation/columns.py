"""Which metrics a table shows, in which order and under which titles: those that the splits have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

Scores = Mapping[str, Mapping[str, float]]
"""Metric values by split and name."""

_TOOL_USE = {
    "tool_match": "tool match",
    "tool_similarity": "similarity",
    "unknown_tool_rate": "unknown",
    "calls_per_task": "calls",
}
_SAME_AS = {"score/correct": "accuracy", "score/tool_match": "tool_match"}
"""Terms that may be what another column shows already."""
_LEFT_OUT = frozenset({"reward", "success", "accuracy", "finished", "completion_tokens", "infrastructure"})


def headline(rows: Iterable[Mapping[str, float]]) -> str:
    """Return the one metric to compare splits by: the accuracy where all that have a success have it, else the success.

    Where there is no success at all it is the reward.
    """
    judged = [row for row in rows if "success" in row or "accuracy" in row]
    if not judged:
        return "reward"
    return "accuracy" if all("accuracy" in row for row in judged) else "success"


def columns(*tables: Scores, success_terms: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the metrics to show, with their titles.

    First the accuracy or success (without either the reward), mean@k, pass@k and pass^k, then the
    terms of the reward, how tools are used, and metrics of one's own. Intervals have no column:
    they belong to their metric. The term that the success is taken from has none either. A term
    that is called what another column is called has its whole name.

    Args:
        tables: Whose splits are shown.
        success_terms: By split, the term of its reward that the success is taken from.
    """
    rows = [row for table in tables for row in table.values()]
    by_split = [item for table in tables for item in table.items()]
    measured = dict.fromkeys(name for row in rows for name in row if not name.endswith("/interval"))
    first = headline(rows)
    several = [name for name in measured if name.startswith(("mean@", "pass@", "pass^"))]
    terms = [
        name
        for name in measured
        if name.startswith("score/") and not _is_shown(name, rows) and not _is_success(name, by_split, success_terms)
    ]
    tools = [name for name in _TOOL_USE if name in measured]
    taken = {first, *several, *terms, *tools, *_LEFT_OUT}
    own = [name for name in measured if name not in taken and not name.startswith("score/")]
    lost = ["infrastructure"] if any(row.get("infrastructure") for row in rows) else []
    names = [*([first] if first in measured else []), *several, *terms, *tools, *own, *lost]
    titles = {name: _TOOL_USE.get(name, name.removeprefix("score/")) for name in names}
    number = Counter(title.replace("_", " ") for title in titles.values())
    return {name: name if number[title.replace("_", " ")] > 1 else title for name, title in titles.items()}


def _is_shown(term: str, rows: Iterable[Mapping[str, float]]) -> bool:
    if term == "score/known_tools":  # the rate of unknown tools says more
        return True
    other = _SAME_AS.get(term)
    return other is not None and all(row.get(other) == row[term] for row in rows if term in row)


def _is_success(
    term: str, rows: Iterable[tuple[str, Mapping[str, float]]], success_terms: Mapping[str, str] | None
) -> bool:
    """Say whether a term is what the success is taken from, in every split that has it."""
    if not success_terms:
        return False
    return all(f"score/{success_terms.get(split)}" == term and "success" in row for split, row in rows if term in row)


def shown(row: Mapping[str, float], name: str) -> str:
    """Write a metric of a split, with its interval where it has one; a dash where it was not measured."""
    if (value := row.get(name)) is None:
        return "–"
    text = f"{value:.2f}" if -1 <= value <= 1 else f"{value:.1f}"
    interval = row.get(f"{name}/interval")
    return text if interval is None else f"{text} ± {interval:.2f}"
