"""A user behind a local server: it asks for the colour of one thing after the other, and thanks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mentor_pl.errors import ConfigError, DataFileError, MentorError, ToolBackendError
from mentor_pl.messages import Message, ToolCall
from mentor_pl.plugins import load_plugins
from mentor_pl.reference import Reference
from mentor_pl.references.budget import Budget
from mentor_pl.rollout.agent_loop import Episode
from mentor_pl.simulation.simulator import SimulatorSettings
from mentor_pl.simulation.user import SimulatedUser
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason
from tests.unit.chat_endpoint import ChatEndpoint


def wishes(request: dict[str, Any]) -> str:
    """Ask for the colours that stand in the instructions, one by one, then stop."""
    things = request["messages"][0]["content"].partition("Ask for: ")[2].partition("\n")[0].split()
    said = sum(message["role"] == "assistant" for message in request["messages"])
    return things[said - 1] if said <= len(things) else "###STOP###"


def prompt(wanted: str = "sky grass", **fields: Any) -> Reference:
    return Reference(
        reference_id="p",
        prompt=(Message(role="system", content="Be kind."), Message(role="user", content="Hello")),
        answer="",
        tools=(),
        fields={"user_instructions": f"Ask for: {wanted}", **fields},
    )


def says(text: str) -> Message:
    return Message(role="assistant", content=text)


def user(endpoint: ChatEndpoint, folder: Path, **settings: Any) -> SimulatedUser:
    return SimulatedUser(endpoint.model(settings.pop("max_retries", 12)), cache=folder / "user.jsonl", **settings)


def converse(speaker: SimulatedUser, reference: Reference, answer: str = "Yes?") -> list[str | None]:
    """Let a student that always says the same talk with a user; return what the user said."""
    loop = Episode(
        reference=reference, sample_index=0, toolbox=ToolBox([]), max_turns=20, max_tool_calls=1, user=speaker
    )
    while loop.stop_reason is None and loop.take(says(answer)):
        loop.resume(loop.respond())
    trajectory = loop.finish()
    assert trajectory.stop_reason is StopReason.ANSWERED
    return [turn.follow_up for turn in trajectory.turns]


def test_it_says_what_it_wants_and_ends(tmp_path: Path) -> None:
    with ChatEndpoint(wishes).running() as endpoint:
        assert converse(user(endpoint, tmp_path), prompt()) == ["sky", "grass", None]
    assert load_plugins("mentor_pl.users")["SimulatedUser"] is SimulatedUser


def test_with_30_percent_faults_nothing_is_lost_changed_or_said_twice(tmp_path: Path) -> None:
    wanted = [f"a{n} b{n} c{n}" for n in range(6)]
    with ChatEndpoint(wishes, faults=0.3).running() as endpoint:
        speaker = user(endpoint, tmp_path)
        with ThreadPoolExecutor(12) as pool:  # each conversation three times, at the same time
            said = list(pool.map(lambda w: converse(speaker, prompt(w)), wanted * 3))
    assert said == [[*w.split(), None] for w in wanted] * 3
    assert sum(endpoint.asked.values()) > sum(endpoint.answered.values())  # there were faults
    assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 6 * 4


def test_it_sees_what_was_said_and_no_tools_reasoning_or_system_prompt(tmp_path: Path) -> None:
    seen: list[list[tuple[str, str]]] = []

    def note(request: dict[str, Any]) -> str:
        seen.append([(m["role"], m["content"]) for m in request["messages"][1:]])
        return "ok"

    call = ToolCall(call_id="c", name="look", arguments={"at": "secret"})
    messages = (
        *prompt().prompt,
        Message(role="assistant", content="One moment.", tool_calls=(call,)),
        Message(role="tool", content="secret", tool_call_id="c"),
        says("<think>secret</think>It is blue."),
    )
    with ChatEndpoint(note).running() as endpoint:
        assert user(endpoint, tmp_path).reply(prompt(), messages) == "ok"
        assert user(endpoint, tmp_path).reply(prompt(), (*prompt().prompt, says(""))) == "ok"
    assert seen == [
        [("user", "Hello! How can I help you?"), ("assistant", "Hello"), ("user", "One moment.\n\nIt is blue.")],
        [("user", "Hello! How can I help you?"), ("assistant", "Hello"), ("user", "(The assistant says nothing.)")],
    ]


def test_its_messages_are_limited_and_without_instructions_nobody_speaks(tmp_path: Path) -> None:
    with ChatEndpoint(lambda _: "Go on.").running() as endpoint:
        assert converse(user(endpoint, tmp_path, max_messages=2), prompt()) == ["Go on.", "Go on.", None]
        assert converse(user(endpoint, tmp_path), prompt(user_instructions=None)) == [None]
        general = user(endpoint, tmp_path, instructions="You are in a hurry.", max_messages=1)
        assert converse(general, prompt(user_instructions=None)) == ["Go on.", None]


def test_where_it_cannot_be_reached_the_trajectory_is_lost_and_no_0(tmp_path: Path) -> None:
    with ChatEndpoint(wishes, faults=1.0).running() as endpoint:
        settings = SimulatorSettings(max_unanswered_in_a_row=2)
        speaker = user(endpoint, tmp_path, max_retries=1, settings=settings)
        loop = Episode(
            reference=prompt(), sample_index=0, toolbox=ToolBox([]), max_turns=5, max_tool_calls=1, user=speaker
        )
        loop.take(says("Yes?"))
        loop.resume(loop.respond())
        assert loop.finish().stop_reason is StopReason.INFRASTRUCTURE
        with pytest.raises(MentorError, match="2 questions to the simulated user in a row ended like this"):
            speaker.reply(prompt(), (*prompt().prompt, says("Hm?")))


def test_what_is_empty_is_asked_for_again_and_then_lost(tmp_path: Path) -> None:
    with ChatEndpoint(lambda _: "<think>hm</think>").running() as endpoint:
        speaker = user(endpoint, tmp_path)
        with pytest.raises(ToolBackendError, match="gave nothing usable in 3 replies"):
            speaker.reply(prompt(), (*prompt().prompt, says("Yes?")))
    assert sum(endpoint.asked.values()) == 3


def test_a_spent_budget_ends_the_run(tmp_path: Path) -> None:
    with ChatEndpoint(wishes).running() as endpoint:
        speaker = user(endpoint, tmp_path, settings=SimulatorSettings(budget=Budget(max_requests=1)))
        with pytest.raises(MentorError, match="simulated user's budget is spent after 1 replies"):
            converse(speaker, prompt())


def test_settings_and_fields_that_cannot_be_are_named(tmp_path: Path) -> None:
    endpoint = ChatEndpoint(wishes)
    with pytest.raises(ConfigError, match="max_messages is 0"):
        user(endpoint, tmp_path, max_messages=0)
    with pytest.raises(ConfigError, match="end is empty"):
        user(endpoint, tmp_path, end=" ")
    with pytest.raises(ConfigError, match="max_asks is 0"):
        SimulatorSettings(max_asks=0)
    with pytest.raises(DataFileError, match="'p': user_instructions is 5"):
        user(endpoint, tmp_path).reply(prompt(user_instructions=5), prompt().prompt)
