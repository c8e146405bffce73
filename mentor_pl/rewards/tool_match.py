"""Did the student use the tools that the teacher used?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, cast

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolCall
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory

MatchMode = Literal["exact", "overlap", "f1", "multiset_f1", "order", "calls"]
Key = Hashable


def _exact(student: Sequence[Key], teacher: Sequence[Key]) -> float:
    return float(set(student) == set(teacher))


def _overlap(student: Sequence[Key], teacher: Sequence[Key]) -> float:
    return float(bool(set(student) & set(teacher)) or not (student or teacher))


def _f1_of_counts(common: int, student: int, teacher: int) -> float:
    return 2 * common / (student + teacher) if student + teacher else 1.0


def _f1(student: Sequence[Key], teacher: Sequence[Key]) -> float:
    return _multiset_f1(list(set(student)), list(set(teacher)))


def _multiset_f1(student: Sequence[Key], teacher: Sequence[Key]) -> float:
    common = sum((Counter(student) & Counter(teacher)).values())
    return _f1_of_counts(common, len(student), len(teacher))


def _order(student: Sequence[Key], teacher: Sequence[Key]) -> float:
    """F1 of the longest common subsequence."""
    lengths = [0] * (len(teacher) + 1)
    for mine in student:
        diagonal = 0
        for index, theirs in enumerate(teacher, start=1):
            longest = diagonal + 1 if mine == theirs else max(lengths[index], lengths[index - 1])
            diagonal, lengths[index] = lengths[index], longest
    return _f1_of_counts(lengths[-1], len(student), len(teacher))


_MODES: dict[MatchMode, Callable[[Sequence[Key], Sequence[Key]], float]] = {
    "exact": _exact,
    "overlap": _overlap,
    "f1": _f1,
    "multiset_f1": _multiset_f1,
    "order": _order,
    "calls": _multiset_f1,
}


def json_key(value: Any) -> Key:
    """Return a hashable form of a JSON value, equal where the values are: 3 equals 3.0, True is not 1, keys have no order."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return frozenset((key, json_key(item)) for key, item in items)
    if isinstance(value, (list, tuple)):
        return tuple(json_key(item) for item in cast("Sequence[Any]", value))
    return (type(value).__name__, value) if isinstance(value, bool) else cast("Key", value)


class ToolMatch(RewardComponent):
    """How well the tools that the student used agree with the teacher's; the best agreement over all references of the prompt.

    A call counts as use only where it is well formed and the executor's ledger does not say that it
    failed: writing a tool's name is not using it.
    """

    def __init__(self, mode: MatchMode = "exact", ignore_unknown: bool = True, count_failed: bool = False) -> None:
        """Choose what is compared.

        Args:
            mode: "exact" 1 where the sets of tool names are equal; "overlap" 1 where they share a
                name; "f1" of the two sets; "multiset_f1" of the names with their multiplicity;
                "order" F1 of the longest common subsequence of names; "calls" F1 of the calls,
                equal where name and all arguments are.
            ignore_unknown: Leave out calls of tools that were not offered (`KnownTools` is there
                for them); else they count as further tools.
            count_failed: Count calls too that were malformed, raised or timed out, as the authors'
                release does.

        Raises:
            ConfigError: The mode is not known.
        """
        if mode not in _MODES:
            raise ConfigError(f"ToolMatch: mode is {mode!r}; it must be one of {', '.join(_MODES)}")
        self.mode: MatchMode = mode
        self.ignore_unknown = ignore_unknown
        self.count_failed = count_failed

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Compare with each reference; the best counts."""
        used = trajectory.tool_calls if self.count_failed else calls_in_use(trajectory)
        return max(self._agreement(used, reference) for reference in references)

    def _agreement(self, used: Sequence[ToolCall], reference: Reference) -> float:
        offered = {tool.name for tool in reference.tools}
        mine = [call for call in used if not self.ignore_unknown or call.name in offered]
        return _MODES[self.mode](self._keys(mine), self._keys(reference.tool_calls))

    def _keys(self, calls: Sequence[ToolCall]) -> list[Key]:
        if self.mode == "calls":
            return [(call.name, json_key(call.arguments)) for call in calls]
        return [call.name for call in calls]


def calls_in_use(trajectory: Trajectory) -> tuple[ToolCall, ...]:
    """Return the calls that are well formed and that the ledger does not report as failed, in order."""
    calls: list[ToolCall] = []
    for turn in trajectory.turns:
        failed = {result.call_id for result in turn.tool_results if not result.ok}
        calls += [c for c in turn.message.tool_calls if c.parse_error is None and c.call_id not in failed]
    return tuple(calls)
