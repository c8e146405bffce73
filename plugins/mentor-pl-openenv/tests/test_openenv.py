"""Against real OpenEnv servers. MENTOR_PL_OPENENV_PYTHON names a Python that has openenv-core, where this one has not."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websockets")

from mentor_pl_openenv import OpenEnv, OpenEnvEpisodes

from mentor_pl.errors import ConfigError, DataFileError, ToolBackendError
from mentor_pl.files.references import read_references
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolStatus
from mentor_pl.plugins import load_plugins
from mentor_pl.reference import Reference
from mentor_pl.rewards.environment_score import EnvironmentScore
from mentor_pl.rollout.agent_loop import Episode
from mentor_pl.testing import check_environment, check_tool_backend
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason

PYTHON = os.environ.get("MENTOR_PL_OPENENV_PYTHON") or (sys.executable if importlib.util.find_spec("openenv") else None)
needs_openenv = pytest.mark.skipif(PYTHON is None, reason="openenv-core is not installed")


def serve(what: str) -> Iterator[str]:
    """Run a demo server; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert PYTHON is not None
    server = subprocess.Popen([PYTHON, str(Path(__file__).with_name("demo_server.py")), what, str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the demo server ended"
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def game() -> Iterator[str]:
    yield from serve("game")


@pytest.fixture(scope="module")
def bank() -> Iterator[str]:
    yield from serve("bank")


def prompt(backend: OpenEnv, **reset: Any) -> Reference:
    asked = (Message(role="user", content="?"),)
    return Reference(reference_id="p", prompt=asked, answer="", tools=backend.specs, fields={"reset": reset})


def guess(number: Any, name: str = "guess_it") -> ToolCall:
    return ToolCall(call_id="c", name=name, arguments={"number": number})


def play(backend: OpenEnv, *numbers: int, number: int = 6) -> Any:
    """Let a student guess; return its trajectory."""
    loop = Episode(
        reference=prompt(backend, number=number),
        sample_index=0,
        toolbox=ToolBox([backend]),
        max_turns=5,
        max_tool_calls=5,
    )
    for one in numbers:
        assert loop.take(Message(role="assistant", tool_calls=(guess(one),)))
        loop.resume(loop.respond())
    if loop.stop_reason is None:
        loop.take(Message(role="assistant", content="I give up."))
    return loop.finish()


@needs_openenv
def test_an_action_is_a_tool(game: str) -> None:
    (spec,) = OpenEnv(game).specs
    assert (spec.name, spec.description) == ("guess_it", "Guess a number from 1 to 9.")
    number = {"type": "integer", "description": "From 1 to 9."}
    assert spec.parameters == {"type": "object", "properties": {"number": number}, "required": ["number"]} | {
        key: value for key, value in spec.parameters.items() if key == "additionalProperties"
    }
    assert OpenEnv(game, name="guess", description="Guess.").specs[0].name == "guess"
    assert load_plugins("mentor_pl.tools")["OpenEnv"] is OpenEnv


@needs_openenv
def test_an_episode_ends_the_trajectory_with_its_state_and_reward(game: str) -> None:
    backend = OpenEnv(game, reward_range=(0.0, 10.0))
    won = play(backend, 5, 6)
    assert [json.loads(r.content)["hint"] for r in won.tool_results] == ["higher", "found"]
    assert won.stop_reason is StopReason.CALLED and won.finished
    assert won.final_state == {"number": 6, "tries": 2}
    assert won.environment_score == 0.5  # 10 / 2 of 10
    assert EnvironmentScore().score(won, [prompt(backend)]) == 0.5
    lost = play(backend, 1, 2, 3)
    assert (lost.stop_reason, lost.environment_score) == (StopReason.CALLED, 0.0)
    gave_up = play(backend)
    assert (gave_up.stop_reason, gave_up.environment_score) == (StopReason.ANSWERED, 0.0)
    assert gave_up.final_state == {"number": 6, "tries": 0}


@needs_openenv
def test_what_is_shown_and_which_rewards_count(game: str) -> None:
    backend = OpenEnv(game, shown="hint", reward="max", reward_range=(0.0, 5.0))
    won = play(backend, 6)
    assert won.tool_results[0].content == "found"
    assert won.environment_score == 1.0  # 10 lies above the range


@needs_openenv
def test_what_the_student_gets_wrong_is_an_error_to_read(game: str) -> None:
    with OpenEnv(game).session(None) as session:

        def refusal(call: ToolCall) -> str:
            result = session(call)
            assert isinstance(result, ToolResult) and result.status is ToolStatus.ERROR
            return result.content

        assert "the number lies between 1 and 9" in refusal(guess(0))
        assert "'six' is not of type 'integer'" in refusal(guess("six"))
        assert "shout" in refusal(guess(1, name="shout"))
        assert session(guess(1)).ok  # nothing was lost by it


@needs_openenv
def test_a_step_that_takes_too_long_is_a_timeout_and_ends_the_episode(game: str) -> None:
    with OpenEnv(game, timeout_s=1.0).session(None) as session:
        assert session(guess(13)).status is ToolStatus.TIMEOUT
        after = session(guess(1))
        assert (after.status, "lost when a call took too long" in after.content) == (ToolStatus.ERROR, True)
        assert session.state is not None and session.state() is None
    time.sleep(3)  # the server's session ends with its step


@needs_openenv
def test_a_full_server_is_infrastructure_and_says_what_to_set(game: str) -> None:
    backend = OpenEnv(game)
    with ExitStack() as stack:
        sessions = [stack.enter_context(backend.session()) for _ in range(17)]
        assert all(session(guess(1)).ok for session in sessions[:16])
        with pytest.raises(ToolBackendError, match="max_concurrent_envs of at least"):
            sessions[16](guess(1))


@needs_openenv
def test_an_mcp_environment_has_the_tools_that_it_lists(bank: str) -> None:
    backend = OpenEnv(bank)
    (spec,) = backend.specs
    assert (spec.name, spec.description) == ("pay", "Pay an amount in.")
    with backend.session(prompt(backend, balance=5)) as session:
        assert session(ToolCall(call_id="c", name="pay", arguments={"amount": 2})).content == "7"
        refused = session(ToolCall(call_id="c", name="pay", arguments={"amount": -2}))
        assert refused.status is ToolStatus.ERROR and "an amount is not negative" in refused.content
        assert session.state is not None and session.state() == {"balance": 7}
    with backend.session() as session:  # another trajectory, another account
        assert session(ToolCall(call_id="c", name="pay", arguments={"amount": 1})).content == "1"


@needs_openenv
def test_episodes_are_prompts_with_seeds_that_repeat(game: str) -> None:
    backend = OpenEnv(game)
    environment = OpenEnvEpisodes(backend, instructions="Guess it.", episodes=3, first_seed=7)
    references = check_environment(environment)
    assert [reference.fields["reset"] for reference in references] == [{"seed": 7}, {"seed": 8}, {"seed": 9}]
    assert references[0].prompt[-1].content == 'Guess it.\n\n{"hint": "from 1 to 9", "tries_left": 3}'
    numbers: set[int] = set()
    for _ in range(2):
        with ToolBox([OpenEnv(game)]).session(references[0]) as session:
            numbers.add(session.state()["number"])
    assert len(numbers) == 1
    assert load_plugins("mentor_pl.environments")["OpenEnvEpisodes"] is OpenEnvEpisodes
    with pytest.raises(ConfigError, match="0 episodes from the seed 0"):
        OpenEnvEpisodes(backend, instructions="", episodes=0)


@needs_openenv
def test_the_command_writes_the_same_references(game: str, tmp_path: Path) -> None:
    file = tmp_path / "references.jsonl"
    command = ["--url", game, "--episodes", "2", "--instructions", "Guess it.", "--output", str(file)]
    subprocess.run([sys.executable, "-m", "mentor_pl_openenv", *command], check=True)
    environment = OpenEnvEpisodes(OpenEnv(game), instructions="Guess it.", episodes=2)
    assert read_references(file) == list(environment.read())


@needs_openenv
def test_it_keeps_the_contract(bank: str) -> None:
    check_tool_backend(OpenEnv(bank), [ToolCall(call_id="c", name="pay", arguments={"amount": n}) for n in (1, 2)])


def test_settings_that_cannot_be_are_named() -> None:
    with pytest.raises(ConfigError, match="url is 'localhost:8000'"):
        OpenEnv("localhost:8000")
    with pytest.raises(ConfigError, match=r"reward_range is \[1.0, 0.0\]"):
        OpenEnv("http://127.0.0.1:9", reward_range=(1.0, 0.0))
    with pytest.raises(ToolBackendError, match="does not answer /schema"):
        OpenEnv("http://127.0.0.1:9", start_timeout_s=1.0)


@needs_openenv
def test_arguments_of_reset_are_an_object(game: str) -> None:
    backend = OpenEnv(game)
    wrong = Reference(reference_id="p", prompt=(), answer="", tools=backend.specs, fields={"reset": 3})
    with pytest.raises(DataFileError, match="reference 'p': reset is 3"):
        backend.episode(wrong)
