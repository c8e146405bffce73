"""Is the environment in the state that it should be in?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from mentor_pl.errors import ConfigError, RewardError
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class StateMatch(RewardComponent):
    """Compares the environment's final state with the one that is expected; the best match over all references counts.

    A student that did not finish has reached nothing, unless `unfinished` says otherwise.

    Expected is a reference's `expected_state`, or, where it has none, the state that the teacher's
    calls lead to. Values are compared as JSON: 3 equals 3.0, keys have no order, true is not 1.
    """

    def __init__(
        self,
        mode: Literal["exact", "share"] = "exact",
        ignore: list[str] | None = None,
        unfinished: bool = False,
    ) -> None:
        """Choose what is compared.

        Args:
            mode: "exact" pays 1 where all values agree; "share" pays the share of values that
                agree, of those that either state has.
            ignore: Keys of objects, at any depth, that may differ: times, generated ids.
            unfinished: Compare the state of a trajectory too that a budget or a forged role ended.

        Raises:
            ConfigError: The mode is not known.
        """
        if mode not in ("exact", "share"):
            raise ConfigError(f"StateMatch: mode is {mode!r}; it must be one of exact, share")
        self.mode = mode
        self.unfinished = unfinished
        self._ignore = frozenset(ignore or ())

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Compare the final state with that of each reference.

        Raises:
            RewardError: No reference says what is expected.
        """
        expected = [reference.expected_state for reference in references if reference.expected_state is not None]
        if not expected:
            raise RewardError(
                f"StateMatch: reference {references[0].reference_id!r} has no expected_state, and no solution of a teacher that "
                "leads to one; write `expected_state`, or name tools whose class has a method state() and that can run the "
                "teacher's calls again (--tools of `mentor-pl score` and `references`)"
            )
        if trajectory.final_state is None or not (trajectory.finished or self.unfinished):
            return 0.0
        return max(self._agreement(trajectory.final_state, state) for state in expected)

    def _agreement(self, reached: Any, expected: Any) -> float:
        mine, wanted = self._leaves(reached), self._leaves(expected)
        if self.mode == "exact":
            return float(mine == wanted)
        both = mine.keys() | wanted.keys()
        return sum(path in mine and path in wanted and mine[path] == wanted[path] for path in both) / len(both)

    def _leaves(self, value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
        """Return every plain value, and every empty object or list, by its path; true is kept apart from 1."""
        items: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            items = [(k, v) for k, v in cast("Mapping[str, Any]", value).items() if k not in self._ignore]
        elif isinstance(value, (list, tuple)):
            items = list(enumerate(cast("Sequence[Any]", value)))
        else:
            return {path: (isinstance(value, bool), value)}
        leaves: dict[tuple[Any, ...], Any] = {}
        for key, item in items:
            leaves |= self._leaves(item, (*path, key))
        return leaves or {path: "{}" if isinstance(value, Mapping) else "[]"}
