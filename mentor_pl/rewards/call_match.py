"""Did the student make the calls that the teacher made, with partial credit for names, keys and values?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolCall
from mentor_pl.reference import Reference
from mentor_pl.rewards.alignment import best_in_any_order, best_in_order
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.tool_match import calls_in_use, json_key
from mentor_pl.trajectory import Trajectory

Credit = Literal["partial", "calls", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallParts:
    """What the parts of a call are worth; only their proportions count.

    Attributes:
        name: The tool's name. A call of another tool is worth nothing, whatever its arguments.
        keys: The names of the arguments: those in common, divided by all that one of the two calls
            has.
        values: The values: the share of the teacher's arguments that have an accepted value.
    """

    name: float = 1.0
    keys: float = 1.0
    values: float = 1.0

    def __post_init__(self) -> None:
        if min(self.name, self.keys, self.values) < 0 or not self.name + self.keys + self.values > 0:
            raise ConfigError(f"CallMatch: parts are {self}; none may be negative, and one must be greater than 0")


class CallMatch(RewardComponent):
    """How well the student's calls, arguments included, agree with the teacher's; the best agreement over all references.

    Each call of the teacher is paired with at most one of the student's, so that the sum over the
    pairs is largest. The score is twice that sum divided by the number of calls of both: missing
    and surplus calls cost alike. Without any call on either side it is 1. The parts of a call are
    those of ToolRL, arXiv:2504.13958, section 3.3, which adds them up; here they are averaged.
    """

    def __init__(
        self,
        credit: Credit = "partial",
        in_order: bool = False,
        count: Literal["executed", "written"] = "executed",
        parts: CallParts | None = None,
        accepted_field: str = "accepted_arguments",
    ) -> None:
        """Choose what counts.

        Args:
            credit: "partial" pays for parts of a call; "calls" only for calls that are wholly
                right; "all" only where every call is right and none is missing or surplus.
            in_order: Pairs must follow one another in the teacher's order.
            count: "executed": calls that are well formed and that no tool reported as failed;
                "written": all that are well formed, for tasks whose calls are not run.
            parts: What name, keys and values are worth; alike unless given.
            accepted_field: Field of a reference with the values that are accepted besides the
                teacher's own: a list with one object for each of its calls, argument -> list of
                values. "" in such a list says that the argument may be left out.

        Raises:
            ConfigError: A value lies outside its range.
        """
        for name, value, known in (
            ("credit", credit, ("partial", "calls", "all")),
            ("count", count, ("executed", "written")),
        ):
            if value not in known:
                raise ConfigError(f"CallMatch: {name} is {value!r}; it must be one of {', '.join(known)}")
        self.credit, self.in_order, self.count = credit, in_order, count
        self.parts = parts or CallParts()
        self.accepted_field = accepted_field

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Compare with each reference; the best counts."""
        if self.count == "executed":
            calls = calls_in_use(trajectory)
        else:
            calls = tuple(call for call in trajectory.tool_calls if call.parse_error is None)
        return max(self._agreement(calls, reference) for reference in references)

    def _agreement(self, calls: Sequence[ToolCall], reference: Reference) -> float:
        wanted = reference.tool_calls
        if not calls and not wanted:
            return 1.0
        accepted = _accepted(reference, self.accepted_field)
        worth = [[self._pair(mine, its, more) for its, more in zip(wanted, accepted, strict=True)] for mine in calls]
        total = (best_in_order if self.in_order else best_in_any_order)(worth)
        score = 2 * total / (len(calls) + len(wanted))
        return float(score >= 1.0 - 1e-9) if self.credit == "all" else min(1.0, score)

    def _pair(self, mine: ToolCall, its: ToolCall, more: Mapping[str, Sequence[Any]]) -> float:
        if mine.name != its.name:
            return 0.0
        left_out = {key for key, values in more.items() if "" in values and key not in mine.arguments}
        expected = {key: value for key, value in its.arguments.items() if key not in left_out}
        keys, wanted_keys = set(mine.arguments), set(expected)
        optional = {key for key in keys - wanted_keys if key in more}  # accepted, though the teacher did without
        common, every = len(keys & wanted_keys), len((keys - optional) | wanted_keys)
        asked = [*expected, *sorted(optional)]
        right = sum(
            key in mine.arguments and _is_accepted(mine.arguments[key], expected.get(key, _NOTHING), more.get(key, ()))
            for key in asked
        )
        by_keys, by_values = common / every if every else 1.0, right / len(asked) if asked else float(not keys)
        if self.credit != "partial":
            return float(by_keys == by_values == 1.0)
        worth = self.parts
        total = worth.name + worth.keys + worth.values
        return (worth.name + worth.keys * by_keys + worth.values * by_values) / total


_NOTHING: Any = object()


def _is_accepted(value: Any, expected: Any, more: Sequence[Any]) -> bool:
    return any(json_key(value) == json_key(one) for one in (expected, *more) if one is not _NOTHING)


def _accepted(reference: Reference, field: str) -> Sequence[Mapping[str, Sequence[Any]]]:
    """Return the further accepted values of each call; none where the field is not there or fits another list of calls."""
    rows = reference.fields.get(field)
    if not isinstance(rows, list) or len(cast("list[Any]", rows)) != len(reference.tool_calls):
        return [{} for _ in reference.tool_calls]
    return [
        _as_lists(cast("Mapping[str, Any]", row)) if isinstance(row, Mapping) else {} for row in cast("list[Any]", rows)
    ]


def _as_lists(row: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    return {key: cast("list[Any]", value) if isinstance(value, list) else [value] for key, value in row.items()}
