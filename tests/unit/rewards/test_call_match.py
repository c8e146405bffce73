from dataclasses import replace
from typing import Any

import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.rewards.call_match import CallMatch, CallParts
from mentor_pl.testing import check_reward_component, trajectory


def call(name: str, call_id: str = "a", **arguments: Any) -> ToolCall:
    return ToolCall(call_id=call_id, name=name, arguments=arguments)


def reference(*calls: ToolCall) -> Reference:
    tools = (ToolSpec(name="add"), ToolSpec(name="mul"))
    return Reference(reference_id="r", prompt=(Message(role="user"),), answer="", tools=tools, tool_calls=calls)


def score(component: CallMatch, calls: list[ToolCall], wanted: list[ToolCall], **more: Any) -> float:
    return component.score(trajectory("done", *calls, **more), [reference(*wanted)])


@pytest.mark.parametrize(
    "component", [CallMatch(), CallMatch(credit="all", in_order=True), CallMatch("calls", count="written")]
)
def test_it_keeps_the_contract(component: CallMatch) -> None:
    check_reward_component(component)


@pytest.mark.parametrize(
    ("calls", "wanted", "partial", "whole"),
    [
        ([call("add", a=1, b=2)], [call("add", a=1, b=2)], 1.0, 1.0),
        ([call("add", a=1, b=3)], [call("add", a=1, b=2)], 2.5 / 3, 0.0),  # one of two values
        ([call("add", a=1)], [call("add", a=1, b=2)], 2.0 / 3, 0.0),  # name 1, keys 1/2, values 1/2
        ([call("add", a=1, b=2, c=3)], [call("add", a=1, b=2)], (1 + 2 / 3 + 1) / 3, 0.0),
        ([call("mul", a=1, b=2)], [call("add", a=1, b=2)], 0.0, 0.0),
        ([call("add", a=1), call("add", "b", a=1)], [call("add", a=1)], 2 / 3, 2 / 3),  # a surplus call
        ([], [call("add", a=1)], 0.0, 0.0),
        ([], [], 1.0, 1.0),
        ([call("add", a=1.0)], [call("add", a=1)], 1.0, 1.0),
        ([call("add", a=True)], [call("add", a=1)], 2 / 3, 0.0),
        ([call("add")], [call("add")], 1.0, 1.0),
    ],
)
def test_parts_of_calls(calls: list[ToolCall], wanted: list[ToolCall], partial: float, whole: float) -> None:
    assert score(CallMatch(), calls, wanted) == pytest.approx(partial)
    assert score(CallMatch(credit="calls"), calls, wanted) == pytest.approx(whole)
    assert score(CallMatch(credit="all"), calls, wanted) == float(whole == 1.0)


def test_pairs_are_the_best_ones() -> None:
    # taking the first match for the first call would leave nothing for the second
    calls = [call("add", a=1, b=2), call("add", "b", a=1, b=3)]
    assert score(CallMatch(), calls, [call("add", a=1, b=3), call("add", "b", a=1, b=2)]) == 1.0


def test_order_counts_where_it_is_asked_for() -> None:
    mine, its = [call("mul", a=1), call("add", "b", a=1)], [call("add", a=1), call("mul", "b", a=1)]
    assert score(CallMatch(), mine, its) == 1.0
    assert score(CallMatch(in_order=True), mine, its) == 0.5
    assert score(CallMatch(in_order=True, credit="all"), its, its) == 1.0


def test_a_failed_call_was_written_but_not_executed() -> None:
    failed = ToolResult(call_id="a", content="no", status=ToolStatus.ERROR)
    assert score(CallMatch(), [call("add", a=1)], [call("add", a=1)], results=[failed]) == 0.0
    assert score(CallMatch(count="written"), [call("add", a=1)], [call("add", a=1)], results=[failed]) == 1.0


def test_accepted_values_come_from_the_reference() -> None:
    known = replace(
        reference(call("add", a=1, b="x")), fields={"accepted_arguments": [{"a": [1, 2], "b": ["x", ""], "c": [3, ""]}]}
    )
    agreement = CallMatch(credit="all")
    for mine, right in (
        ({"a": 2, "b": "x"}, True),
        ({"a": 1}, True),  # b may be left out
        ({"a": 1, "c": 3}, True),  # c may be given
        ({"a": 1, "c": 4}, False),
        ({"b": "x"}, False),
        ({"a": 3, "b": "x"}, False),
    ):
        assert agreement.score(trajectory("", call("add", **mine)), [known]) == float(right)


def test_parts_have_weights() -> None:
    component = CallMatch(parts=CallParts(name=0, keys=0, values=1))
    assert score(component, [call("add", a=1, b=3)], [call("add", a=1, b=2)]) == 0.5


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="credit is 'some'; it must be one of partial, calls, all"):
        CallMatch(credit="some")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="none may be negative, and one must be greater than 0"):
        CallParts(name=0, keys=0, values=0)
