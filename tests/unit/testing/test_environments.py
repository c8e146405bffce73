"""The checker of environments passes what keeps the contract, and names what breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mentor_pl.environments import Environment
from mentor_pl.errors import ConfigError, PluginError
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.rewards.call_match import CallMatch
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.testing import check_environment
from mentor_pl.tools.declared import DeclaredTools

CALL = ToolCall(call_id="call_0", name="refund", arguments={"order": 7})
REFUND = Reference(
    reference_id="refund-7",
    prompt=(Message(role="user", content="I want my money for order 7."),),
    answer="",
    tools=(ToolSpec(name="refund", description="Refund an order.", parameters={"type": "object"}),),
    tool_calls=(CALL,),
    messages=(Message(role="assistant", tool_calls=(CALL,)),),
)
CALLS = RewardProgram(terms=[RewardTerm(name="calls", component=CallMatch(), weight=1.0, success=True)])


class Refunds(Environment):
    """References that are handed over."""

    def __init__(self, *references: Reference, **settings: Any) -> None:
        super().__init__(**{"tools": [DeclaredTools()], "reward": CALLS} | settings)
        self._references = references

    def read(self, *, max_bad_lines: int = 0) -> list[Reference]:
        return list(self._references)


class Restless(Refunds):
    """Gives other references each time."""

    def read(self, *, max_bad_lines: int = 0) -> list[Reference]:
        self._references = (replace(REFUND, reference_id=f"{self._references[0].reference_id}+"),)
        return list(self._references)


def test_one_that_keeps_the_contract() -> None:
    assert check_environment(Refunds(REFUND)) == [REFUND]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (Refunds(REFUND, tools=None), "Refunds: it has no tools; its constructor hands over"),
        (Refunds(REFUND, reward=None), "it has no reward"),
        (Refunds(), "read\\(\\) gives no references"),
        (Refunds(REFUND, REFUND), "ids occur twice"),
        (Restless(REFUND), "read\\(\\) gives others the second time"),
        (
            Refunds(replace(REFUND, tool_calls=(replace(CALL, name="other"),))),
            "the teacher's solution of 'refund-7' scores \\(0.0,\\) in 'calls'",
        ),
    ],
)
def test_what_breaks_it_is_named(environment: Environment, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_environment(environment)


def test_a_tool_without_a_backend() -> None:
    with pytest.raises(ConfigError, match="offers the tool 'refund', which none of its tool backends has"):
        check_environment(Refunds(REFUND, tools=[]))


def test_a_teacher_that_may_fail() -> None:
    wrong = replace(REFUND, tool_calls=(replace(CALL, name="other"),))
    assert check_environment(Refunds(wrong), teacher_succeeds=False) == [wrong]
