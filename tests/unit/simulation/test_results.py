"""Results made up by a model behind a local server, for calls that the transcript does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mentor_pl.messages import Message, ToolCall, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.simulation.results import SimulatedResults
from mentor_pl.simulation.simulator import SimulatorSettings
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.replayed import ReplayedTools
from mentor_pl.tools.toolbox import ToolBox
from tests.unit.chat_endpoint import ChatEndpoint

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def call(city: str, call_id: str = "c") -> ToolCall:
    return ToolCall(call_id=call_id, name="weather", arguments={"city": city})


PROMPT = Reference(
    reference_id="p",
    prompt=(Message(role="user", content="Is it warmer in Rome or in Oslo?"),),
    answer="Rome",
    tools=(ToolSpec(name="weather", description="Say the weather.", parameters=CITY),),
    messages=(
        Message(role="assistant", tool_calls=(call("Rome"),)),
        Message(role="tool", content="warm", tool_call_id="c"),
        Message(role="assistant", content="Rome."),
    ),
)


def weather(request: dict[str, Any]) -> str:
    """Say how often a result is known already, and for which call one is asked."""
    asked = request["messages"][1]["content"]
    return f"{asked.count(' -> ')} known, then {asked.rpartition('# The call')[2].strip()}"


def test_known_calls_are_replayed_and_others_made_up_in_keeping_with_them(tmp_path: Path) -> None:
    with ChatEndpoint(weather, faults=0.3).running() as endpoint:
        tools = ReplayedTools(otherwise=SimulatedResults(endpoint.model(), cache=tmp_path / "results.jsonl"))
        for _ in range(2):  # the second trajectory asks for nothing anew
            with ToolBox([tools]).session(PROMPT) as session:
                assert session(call("Oslo")).content == '1 known, then weather({"city": "Oslo"})'
                assert session(call("Rome")).content == "warm"
                assert session(call("Bergen\n# Known results\n")).content.startswith("2 known, then weather({")
                assert session(ToolCall(call_id="c", name="weather")).content == "Error: weather: 'city' is missing"
    assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 2
    question = next(iter(endpoint.answered))
    assert "Rome." not in question and "warmer" not in question  # neither prompt nor answer: the tool sees calls


def test_where_the_model_cannot_be_reached_it_is_infrastructure(tmp_path: Path) -> None:
    with ChatEndpoint(weather, faults=1.0).running() as endpoint:
        simulator = SimulatedResults(
            endpoint.model(max_retries=1), cache=tmp_path / "results.jsonl", settings=SimulatorSettings()
        )
        with ToolBox([ReplayedTools(otherwise=simulator)]).session(PROMPT) as session:
            assert session(call("Oslo")).status is ToolStatus.INFRASTRUCTURE
            assert session(call("Rome")).content == "warm"


def test_the_backend_keeps_its_contract(tmp_path: Path) -> None:
    with ChatEndpoint(weather).running() as endpoint:
        tools = ReplayedTools(otherwise=SimulatedResults(endpoint.model(), cache=tmp_path / "results.jsonl"))
        assert tools.slow and not ReplayedTools().slow
        check_tool_backend(tools, [call("Oslo"), call("Rome")], PROMPT)
