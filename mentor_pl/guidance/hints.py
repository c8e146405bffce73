"""Hints: attempts that start behind the teacher's first calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mentor_pl.errors import ConfigError
from mentor_pl.guidance.decay import remaining
from mentor_pl.messages import Message
from mentor_pl.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """Prefix guidance: where a group fails, further attempts join it that start behind the teacher's first calls.

    The calls are really executed, and their results are what the tools say now. Neither is trained
    on; what the student samples behind them is, and it is compared with the whole group.

    Attributes:
        attempts: Attempts with a hint, for each prompt whose group fails.
        share: Share of the teacher's calls that are given in round 0, rounded up.
        decay_rounds: Rounds until the share is 0, falling linearly; none for a constant share.
    """

    attempts: int = 2
    share: float = 0.5
    decay_rounds: int | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 < self.share <= 1 or (self.decay_rounds is not None and self.decay_rounds < 1):
            raise ConfigError(
                f"guidance.hints: attempts {self.attempts} must be at least 1, share {self.share} lie in (0, 1], "
                f"decay_rounds {self.decay_rounds} be at least 1"
            )

    def given(self, references: Sequence[Reference], round_index: int) -> tuple[Message, ...]:
        """Return the assistant messages that a prompt's attempts start behind in a round; empty where there is nothing to give."""
        reference = next((r for r in references if r.messages), None)
        share = self.share * remaining(round_index, self.decay_rounds)
        if reference is None or share <= 0:
            return ()
        calling = [message for message in reference.messages if message.role == "assistant" and message.tool_calls]
        left = math.ceil(share * sum(len(message.tool_calls) for message in calling))
        out: list[Message] = []
        for message in calling:
            calls = message.tool_calls[:left]
            left -= len(calls)
            if calls:
                out.append(replace(message, tool_calls=calls))
        return tuple(out)
