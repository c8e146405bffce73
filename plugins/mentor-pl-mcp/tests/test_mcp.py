from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from mentor_pl_mcp import MCP

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolStatus
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.toolbox import ToolBox

SERVER = [sys.executable, str(Path(__file__).with_name("demo_server.py"))]


def call(backend: MCP, name: str, **arguments: Any) -> ToolResult:
    with backend.session() as session:
        return session(ToolCall(call_id="c", name=name, arguments=arguments))


@pytest.fixture(scope="module")
def demo() -> Iterator[MCP]:
    backend = MCP(SERVER, timeout_s=30.0, max_output_chars=100)
    yield backend
    backend.close()


def test_the_servers_tools_are_offered(demo: MCP) -> None:
    specs = {spec.name: spec for spec in demo.specs}
    assert specs["add"].description == "Add two integers."
    assert specs["add"].parameters == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }
    mode = {"type": "string", "enum": ["exact", "fuzzy"], "default": "exact"}
    assert specs["find"].parameters["properties"] == {
        "query": {"type": "string", "description": "What to look for."},
        "mode": mode,
    }
    point = {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}},
        "required": ["x"],
    }
    assert specs["length"].parameters["properties"] == {"point": point}  # its $ref is written out


def test_the_contract_of_the_door() -> None:
    backend = MCP(SERVER, tools=["add", "find"])
    check_tool_backend(backend, [ToolCall(call_id="1", name="add", arguments={"a": 1, "b": 2})])
    backend.close()


@pytest.mark.parametrize(
    ("name", "arguments", "status", "content"),
    [
        ("add", {"a": 2, "b": 3}, "ok", "5"),
        ("find", {"query": "q"}, "ok", "q exact 0\nq exact 1"),
        ("length", {"point": {"x": -3}}, "ok", "3"),
        ("long", {"chars": 250}, "ok", "x" * 100 + "\n[truncated: 100 of 250 characters shown]"),
        ("fail", {}, "error", "Error: fail: Error executing tool fail: kaput"),
        ("add", {"a": "2", "b": 3}, "error", "Error: add: 'a': '2' is not of type 'integer'"),
        ("add", {"a": 2}, "error", "Error: add: 'b' is missing"),
        ("add", {"a": 2, "b": 3, "c": 4}, "error", "Error: add: 'c' is not an argument; the arguments are a, b"),
        ("subtract", {}, "error", "Error: unknown tool 'subtract'; the tools are add, find"),
    ],
)
def test_how_a_call_ends(demo: MCP, name: str, arguments: dict[str, Any], status: str, content: str) -> None:
    result = call(demo, name, **arguments)
    assert result.status.value == status
    assert result.content.startswith(content)


def test_a_call_that_takes_too_long_is_given_up() -> None:
    backend = MCP(SERVER, timeout_s=1.0)
    result = call(backend, "sleep", seconds=60)
    assert (result.status, result.content) == (ToolStatus.TIMEOUT, "Error: sleep took longer than 1 s")
    backend.close()


def test_many_calls_are_under_way_at_once(demo: MCP) -> None:
    start, results = time.perf_counter(), list[ToolResult]()
    threads = [threading.Thread(target=lambda: results.append(call(demo, "sleep", seconds=2))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.content for result in results] == ["woke up"] * 8
    assert time.perf_counter() - start < 8 * 2


def test_a_server_that_dies_is_started_again() -> None:
    backend = MCP(SERVER)
    first = call(backend, "pid").content
    with pytest.raises(ToolBackendError, match="closed the connection|was lost"):
        call(backend, "die")
    assert call(backend, "pid").content != first
    with ToolBox([backend]).session() as run:
        result = run(ToolCall(call_id="1", name="die"))
    assert result.status is ToolStatus.INFRASTRUCTURE
    backend.close()


def test_the_server_sees_only_the_environment_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENTOR_TEST_GIVEN", "given")
    monkeypatch.setenv("MENTOR_TEST_SECRET", "secret")
    backend = MCP(SERVER, env_from=["MENTOR_TEST_GIVEN"])
    shown = call(backend, "environment").content
    assert "MENTOR_TEST_GIVEN=given" in shown
    assert "MENTOR_TEST_SECRET" not in shown
    backend.close()


def test_state_is_shared_or_per_trajectory() -> None:
    shared = MCP(SERVER, prefix="a_", tools=["note"])
    assert [spec.name for spec in shared.specs] == ["a_note"]
    assert call(shared, "a_note", text="x").content == "x"
    assert call(shared, "a_note", text="y").content == "x, y"
    shared.close()
    own = MCP(SERVER, per_trajectory=True)
    with own.session() as one:
        for text, all_of_them in (("x", "x"), ("y", "x, y")):
            assert one(ToolCall(call_id="1", name="note", arguments={"text": text})).content == all_of_them
    assert call(own, "note", text="z").content == "z"
    own.close()


def test_a_server_over_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([*SERVER, str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
        backend = MCP(url=f"http://127.0.0.1:{port}/mcp")
        assert call(backend, "add", a=2, b=3).content == "5"
        process.kill()
        process.wait()
        with pytest.raises(ToolBackendError):
            call(backend, "add", a=2, b=3)
        backend.close()
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, ConfigError, "MCP needs either `command` .* or `url` .*, and not both"),
        ({"command": SERVER, "env_from": ["MENTOR_NOWHERE"]}, ConfigError, "the environment variable 'MENTOR_NOWHERE' is not set"),
        ({"command": SERVER, "tools": ["ad"]}, ConfigError, "the MCP server has no tool 'ad'; it has add, find"),
        ({"command": ["no-such-server"]}, ToolBackendError, "no-such-server cannot be used"),
        ({"command": [sys.executable, "-c", "import time; time.sleep(60)"], "start_timeout_s": 1.0}, ToolBackendError, "within 1 s"),
        ({"url": "http://127.0.0.1:9/mcp"}, ToolBackendError, "http://127.0.0.1:9/mcp cannot be used"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MCP(**fields)


@pytest.mark.skipif(sys.platform != "linux", reason="the leash is Linux's")
def test_a_server_dies_with_its_trainer() -> None:
    script = (
        "import sys\nfrom mentor_pl_mcp import MCP\nfrom mentor_pl.messages import ToolCall\n"
        "with MCP(sys.argv[1:], timeout_s=60).session() as run:\n"
        "    print(run(ToolCall(call_id='1', name='pid')).content, flush=True)\n"
        "    run(ToolCall(call_id='2', name='sleep', arguments={'seconds': 60}))\n"
    )
    trainer = subprocess.Popen([sys.executable, "-c", script, *SERVER], stdout=subprocess.PIPE)
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    pytest.fail("the server outlived its trainer")
