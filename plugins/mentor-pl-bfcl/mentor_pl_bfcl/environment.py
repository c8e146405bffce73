"""The leaderboard as an environment: its cases, its tools, its checkers, its columns."""

from __future__ import annotations

from typing import Any

from mentor_pl.environments import Environment
from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference
from mentor_pl.rewards.program import RewardExit, RewardProgram, RewardTerm
from mentor_pl.rewards.readable import Readable
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.declared import DeclaredTools
from mentor_pl_bfcl.cases import SINGLE_TURN
from mentor_pl_bfcl.leaderboard import BFCLColumns
from mentor_pl_bfcl.references import CONVERTED, references_of
from mentor_pl_bfcl.reward import BFCLCorrect
from mentor_pl_bfcl.simulators import BFCLSimulators

_ONE_TURN = RolloutLimits(max_turns=1, max_tool_calls=50, max_completion_tokens=1024)
_CONVERSATION = RolloutLimits(max_turns=60, max_tool_calls=200, max_completion_tokens=8192)


class BFCL(Environment):
    """Cases of the Berkeley Function-Calling Leaderboard, judged by its own checkers."""

    def __init__(
        self,
        categories: list[str],
        reward: RewardProgram | None = None,
        limits: RolloutLimits | None = None,
        max_cases: int | None = None,
        **settings: Any,
    ) -> None:
        """Name the cases.

        Args:
            categories: All of a single turn (`multiple`, `live_simple`, ...), whose calls are
                declared and end the attempt, or all multi-turn (`multi_turn_base`, ...), whose
                calls the package's simulators run.
            reward: Unless given, 1 where the package's checker accepts the calls (the term `bfcl`,
                which is the success). Of a single turn, training pays nothing for what cannot be
                read, which the package takes for no call.
            limits: Unless given: one turn of 1,024 tokens, or 60 turns of 8,192 tokens in all.
            max_cases: Cases of each category, the first ones; null for all.
            **settings: See `Environment`.

        Raises:
            ConfigError: A category is unknown, or the two kinds are mixed; or the package bfcl-eval
                is not installed.
        """
        known = (*SINGLE_TURN, *CONVERTED)
        if not categories or (unknown := [name for name in categories if name not in known]):
            found = repr(unknown[0]) if categories else "none"
            raise ConfigError(f"BFCL: categories names {found}; there are {', '.join(known)}")
        single = [name in SINGLE_TURN for name in categories]
        if any(single) != all(single):
            raise ConfigError(
                f"BFCL: categories mixes {', '.join(categories)}; cases of one turn and multi-turn cases need other limits: make two "
                "environments of them"
            )
        if max_cases is not None and max_cases < 1:
            raise ConfigError(f"BFCL: max_cases is {max_cases}; it must be at least 1")
        tools: list[ToolBackend] = [DeclaredTools()] if single[0] else [BFCLSimulators()]
        super().__init__(
            tools=tools,
            reward=reward or _default_reward(single_turn=single[0]),
            limits=limits or (_ONE_TURN if single[0] else _CONVERSATION),
            metrics=[BFCLColumns()],
            **settings,
        )
        self.categories = categories
        self.max_cases = max_cases

    def read(self, *, max_bad_lines: int = 0) -> list[Reference]:
        """Return the cases, category by category."""
        return [one for category in self.categories for one in list(references_of(category))[: self.max_cases]]


def _default_reward(*, single_turn: bool) -> RewardProgram:
    """Return the leaderboard's verdict as the success, and as what is paid; a broken call is not paid as a refusal."""
    return RewardProgram(
        exits=[RewardExit(unless=Readable(), reward=0.0)] if single_turn else [],
        terms=[RewardTerm(name="bfcl", component=BFCLCorrect(), weight=1.0, success=True)],
    )
