"""Budgets of a trajectory, most with a `StopReason` of their own, and how tools are waited for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from mentor_pl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class RolloutLimits:
    """What one trajectory may use up, and how its tools are run.

    Attributes:
        max_turns: Assistant turns, the answer included (`StopReason.MAX_TURNS`).
        max_tool_calls: Tool calls over all turns; a turn that would exceed it is not run
            (`MAX_TOOL_CALLS`).
        max_completion_tokens: Sampled tokens over all turns (`MAX_COMPLETION_TOKENS`).
        max_thinking_tokens: Sampled tokens of thought over all turns (`MAX_THINKING_TOKENS`); null
            for no limit of its own. A thought ends where it is spent, in the middle of a turn.
        at_max_thinking: `stop` ends the trajectory there; `close` puts in the tokens that end the
            thought, which are not trained on, and lets the student go on.
        max_tool_result_tokens: Tokens of one tool result; the rest is cut and a marker says so.
        park_after_s: Seconds that decoding waits for the tools of a turn before other trajectories
            go on without it. Timing decides the order of events, and with it the last bits of
            log-probabilities, only where this runs out: so it is longer than the limits of local
            tools. Lower it where calls often hang and a seeded run need not repeat to the bit.
            Tools that are `slow` are never waited for.
        tool_call_timeout_s: Seconds that a call may take whose backend keeps no limit of its own;
            it has then failed as infrastructure.
        max_concurrent_tools: Trajectories whose tools run at the same time, on each rank; more
            wait. Raise it for slow remote tools.
    """

    max_turns: int = 6
    max_tool_calls: int = 10
    max_completion_tokens: int = 1024
    max_thinking_tokens: int | None = None
    at_max_thinking: Literal["stop", "close"] = "stop"
    max_tool_result_tokens: int = 512
    park_after_s: float = 30.0
    tool_call_timeout_s: float = 600.0
    max_concurrent_tools: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < (0 if field.name == "park_after_s" else 1):
                raise ConfigError(f"limits.{field.name} is {value}; it must be positive")
