"""Is a case of the leaderboard solved?"""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.errors import RewardError
from mentor_pl.messages import ToolCall
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory
from mentor_pl_bfcl.cases import find_case
from mentor_pl_bfcl.multi_turn import turns_are_right
from mentor_pl_bfcl.single_turn import calls_are_right


class BFCLCorrect(RewardComponent):
    """1 where the package's own checker accepts the student's calls, else 0. A reference names its case by its id."""

    def __init__(self, unknown: float | None = None) -> None:
        """Say what is paid for a reference that is no case of the leaderboard.

        Args:
            unknown: The score of such a reference, for mixtures with other data; an error unless
                given.

        Raises:
            ConfigError: The package bfcl-eval is not installed.
        """
        from mentor_pl_bfcl.package import data_folder

        data_folder()
        self.unknown = unknown

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Check the calls that the student wrote."""
        case = next((found for known in references if (found := find_case(known.reference_id)) is not None), None)
        if case is None:
            if self.unknown is None:
                raise RewardError(
                    f"BFCLCorrect: {references[0].reference_id!r} is no case of bfcl-eval; convert its files by "
                    "`mentor-pl references convert --from bfcl`, or set `unknown` to the score of other references"
                )
            return self.unknown
        if case.multi_turn:
            return float(trajectory.finished and turns_are_right(case, user_turns(trajectory)))
        return float(calls_are_right(case, trajectory.tool_calls))


def user_turns(trajectory: Trajectory) -> list[list[tuple[ToolCall, ...]]]:
    """Return the student's calls, message by message, for each turn of the user."""
    turns: list[list[tuple[ToolCall, ...]]] = [[]]
    for turn in trajectory.turns:
        if turn.message.tool_calls:
            turns[-1].append(turn.message.tool_calls)
        if turn.follow_up is not None:
            turns.append([])
    return turns
