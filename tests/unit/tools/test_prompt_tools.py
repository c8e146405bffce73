from __future__ import annotations

import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.rollout.agent_loop import Episode
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.declared import DeclaredTools
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.replayed import ReplayedTools
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ZIP = {"type": "object", "properties": {"zip": {"type": "integer"}, "days": {"type": "integer"}}, "required": ["zip"]}


def prompt(parameters, *messages, name="weather"):
    tool = ToolSpec(name=name, description="Say the weather.", parameters=parameters)
    return Reference(
        reference_id="p", prompt=(Message(role="user", content="?"),), answer="", tools=(tool,), messages=messages
    )


def call(call_id="c0", name="weather", **arguments):
    return ToolCall(call_id=call_id, name=name, arguments=arguments)


def answered(one, content):
    tool = Message(role="tool", content=content, tool_call_id=one.call_id, name=one.name)
    return Message(role="assistant", tool_calls=(one,)), tool


def test_prompts_may_offer_different_tools_under_one_name():
    box = ToolBox([DeclaredTools()])
    for reference, right, wrong in (
        (prompt(CITY), {"city": "Rome"}, {"zip": 1}),
        (prompt(ZIP), {"zip": 1}, {"zip": "1"}),
    ):
        assert box.offered(reference) == list(reference.tools)
        with box.session(reference) as session:
            result = session(call(**right))
            assert (result.status, result.final) == (ToolStatus.OK, True)
            result = session(call(**wrong))
            assert (result.status, result.final) == (ToolStatus.ERROR, False)
    check_tool_backend(DeclaredTools(), [call(city="Rome")], prompt(CITY))


def test_a_call_that_fits_its_schema_ends_the_trajectory():
    loop = Episode(
        reference=prompt(CITY), sample_index=0, toolbox=ToolBox([DeclaredTools()]), max_turns=4, max_tool_calls=4
    )
    loop.take(Message(role="assistant", tool_calls=(call(town="Rome"),)))
    loop.resume(loop.respond())
    assert loop.messages()[-1].content == "Error: weather: 'city' is missing"
    loop.take(Message(role="assistant", tool_calls=(call("c1", city="Rome"),)))
    loop.resume(loop.respond())
    trajectory = loop.finish()
    assert (trajectory.stop_reason, trajectory.finished, trajectory.submission) == (StopReason.CALLED, True, None)


@pytest.mark.parametrize(
    ("calls", "reason", "results"),
    [
        ([call(city="Rome")], "called", 1),
        ([call(city="Rome"), call("c1", city="Bern")], "called", 2),
        ([call(town="Rome")], "max_turns", 0),
        ([call(city="Rome"), call("c1", town="Bern")], "max_turns", 0),
        ([call(city="Rome"), call("c1", name="other")], "max_turns", 0),
    ],
)
def test_calls_that_fit_end_the_last_turn_too_and_one_that_does_not_comes_too_late(calls, reason, results):
    box = ToolBox([DeclaredTools()])
    loop = Episode(reference=prompt(CITY), sample_index=0, toolbox=box, max_turns=1, max_tool_calls=4)
    if loop.take(Message(role="assistant", tool_calls=tuple(calls))):
        loop.resume(loop.respond())
    trajectory = loop.finish()
    assert (trajectory.stop_reason, len(trajectory.tool_results)) == (reason, results)


def test_a_schema_that_is_none_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="reference '.*': tool 'weather': its parameters are not JSON Schema"):
        ToolBox([DeclaredTools()]).missing(prompt({"type": "object", "required": 3}))


def test_tools_that_are_only_named_are_described_by_a_backend():
    named = Reference(reference_id="p", prompt=(), answer="", tools=(ToolSpec(name="add"), ToolSpec(name="other")))
    backend = DeclaredTools(described_by=PythonFunctions("mentor_pl.tools.arithmetic", functions=["add"]))
    try:
        assert [spec.description for spec in backend.specs_for(named)] == ["Return a + b.", ""]
        with ToolBox([backend]).session(named) as session:
            assert session(call(name="add", a=1, b="2")).status is ToolStatus.ERROR
            assert session(call(name="other", x=1)).ok
    finally:
        backend.close()


def test_a_transcript_answers_the_same_calls_in_order():
    first, second, other = call("t0", zip=8001), call("t1", zip=8001), call("t2", zip=3000, days=2)
    reference = prompt(ZIP, *answered(first, "rain"), *answered(second, "sun"), *answered(other, "snow"))
    with ToolBox([ReplayedTools()]).session(reference) as session:
        assert [session(call(zip=z)).content for z in (8001, 8001.0, 8001)] == ["rain", "sun", "sun"]
        assert session(call(days=2, zip=3000)).content == "snow"
        unknown = session(call(zip=3000))
        assert (unknown.status, unknown.content) == (
            ToolStatus.ERROR,
            "Error: weather: no such result; nothing is known for these arguments",
        )
        assert session(call(zip="8001")).content == "Error: weather: 'zip': '8001' is not of type 'integer'"
    check_tool_backend(ReplayedTools(), [call(zip=8001)], reference)


def test_arguments_may_be_named_that_differ():
    reference = prompt(ZIP, *answered(call("t0", zip=8001, days=2), "rain"))
    for ignored in ({"weather": ["days"]}, {"*": ["days"]}):
        with ToolBox([ReplayedTools(ignored)]).session(reference) as session:
            assert session(call(zip=8001, days=5)).content == "rain"
            assert not session(call(zip=8002, days=2)).ok


def test_two_calls_of_a_turn_are_answered_by_id_or_in_order():
    one, two = call("a", zip=1), call("b", zip=2)
    asked = Message(role="assistant", tool_calls=(one, two))
    by_id = [Message(role="tool", content=text, tool_call_id=i) for text, i in (("two", "b"), ("one", "a"))]
    in_order = [Message(role="tool", content=text) for text in ("one", "two")]
    for told in (by_id, in_order):
        with ToolBox([ReplayedTools()]).session(prompt(ZIP, asked, *told)) as session:
            assert [session(call(zip=z)).content for z in (1, 2)] == ["one", "two"]
