"""The budget for thought within a trajectory: cut where it is spent, in the middle of a turn."""

from __future__ import annotations

from enum import Enum

from mentor_pl.chat.protocol import ChatProtocol, ParsedTurn
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.trajectory import Completion


class Verdict(Enum):
    """What becomes of a turn whose request has been answered."""

    GOES_ON = "goes on"
    """The turn is not at its end."""

    CUT = "cut"
    """It is at its end: the budget is spent."""

    WHOLE = "whole"
    """The budget has nothing to say."""


class ThinkingBudget:
    """Splits turns into requests so that a thought ends where its budget is spent.

    As long as a turn may be thinking, no more tokens are asked for than the budget has left. Where
    a thought is still open then, the trajectory ends (`at_max_thinking: stop`), or the tokens that
    close it are put in and the turn goes on (`close`); these were not sampled, and
    `Completion.forced` says so.

    Args:
        protocol: The student's.
        limits: Of the trajectory.
    """

    def __init__(self, protocol: ChatProtocol, limits: RolloutLimits) -> None:
        self._protocol = protocol
        self._limit = limits.max_thinking_tokens
        self._closes = limits.at_max_thinking == "close"
        self._spent = 0  # in earlier turns
        self._settled = False  # this turn's thought has ended, or is none

    def left(self, turn: Completion | None) -> int | None:
        """Return how many tokens may be asked for; None where thought sets no limit.

        Args:
            turn: What there is of the turn.
        """
        if self._limit is None or self._settled:
            return None
        sampled = 0 if turn is None else turn.num_sampled_tokens
        return max(1, self._limit - self._spent - sampled)

    def judge(self, turn: Completion, parsed: ParsedTurn) -> Verdict:
        """Say what becomes of a turn.

        Args:
            turn: What there is of it.
            parsed: The same, read.
        """
        if self._limit is None:
            return Verdict.WHOLE
        stopped = turn.finish_reason == "stop"
        if stopped or self._settled:
            thought = turn.forced[0] if turn.forced[1] else parsed.num_thinking_tokens
            over = self._spent + thought > self._limit
            if turn.forced[1]:  # it was closed in time; that it opens another one is the student's doing
                over = self._protocol.opens_thought(turn.token_ids[turn.forced[1] :])
            self._spent, self._settled = self._spent + thought, False
            return Verdict.CUT if over else Verdict.WHOLE
        if not parsed.thinking:
            self._settled = True
            return Verdict.GOES_ON
        if self._spent + turn.num_sampled_tokens < self._limit:
            return Verdict.WHOLE  # another budget ended it
        if not self._closes:
            return Verdict.CUT
        self._settled = True
        return Verdict.GOES_ON

    def closing(self, parsed: ParsedTurn) -> tuple[int, ...]:
        """Return the tokens to be put in where a turn goes on; none where its thought has ended by itself."""
        return self._protocol.thought_end_ids() if parsed.thinking else ()
