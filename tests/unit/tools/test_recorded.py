from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mentor_pl.errors import ConfigError, DataFileError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.recorded import Recorded


class Account(ToolBackend):
    """`pay` changes a balance that lives with the session, `balance` shows it, `clock` counts every call ever made."""

    def __init__(self, stateful: bool = True) -> None:
        self.stateful = stateful
        self.ran: list[str] = []

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(ToolSpec(name=name, description=name) for name in ("pay", "balance", "clock", "hang", "away"))

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        balance = 0

        def run(call: ToolCall) -> ToolResult:
            nonlocal balance
            self.ran.append(call.name)
            if call.name == "away":
                raise ToolBackendError("away")
            balance += call.arguments.get("sum", 0) if call.name == "pay" else 0
            content = str(len(self.ran) if call.name == "clock" else balance)
            status = ToolStatus.TIMEOUT if call.name == "hang" else ToolStatus.OK
            return ToolResult(call_id=call.call_id, content=content, status=status, output_chars=len(content))

        yield ToolSession(run=run)


def play(backend: ToolBackend, *calls: tuple[str, dict[str, Any]] | str) -> list[str]:
    with backend.session() as session:
        results: list[str] = []
        for number, call in enumerate(calls):
            name, arguments = call if isinstance(call, tuple) else (call, {})
            result = session(ToolCall(call_id=str(number), name=name, arguments=arguments))
            assert result.call_id == str(number)
            results.append(result.content)
        return results


def test_the_same_calls_run_once(tmp_path: Path) -> None:
    path = str(tmp_path / "record.jsonl")
    calls = [("pay", {"sum": 3}), "balance", ("pay", {"sum": 4}), "balance"]
    first = Recorded(inner := Account(), path)
    assert play(first, *calls) == ["3", "3", "7", "7"]  # the second `balance` is another state, so another question
    assert play(first, *calls) == ["3", "3", "7", "7"]
    assert inner.ran == ["pay", "balance", "pay", "balance"]
    first.close()
    again = Recorded(other := Account(), path)
    assert play(again, *calls) == ["3", "3", "7", "7"]
    assert other.ran == []


def test_a_new_call_after_replayed_ones_meets_their_state(tmp_path: Path) -> None:
    path = str(tmp_path / "record.jsonl")
    play(Recorded(Account(), path), ("pay", {"sum": 3}))
    again = Recorded(inner := Account(), path)
    assert play(again, ("pay", {"sum": 3}), "balance") == ["3", "3"]
    assert inner.ran == ["pay", "balance"]  # `pay` had been replayed, and was then run to catch up


def test_without_state_only_the_call_counts(tmp_path: Path) -> None:
    backend = Recorded(inner := Account(stateful=False), str(tmp_path / "record.jsonl"))
    play(backend, ("pay", {"sum": 3}), "balance", "balance")
    assert inner.ran == ["pay", "balance"]
    play(backend, "balance", ("pay", {"sum": 3}), ("pay", {"sum": 3.0}))
    assert inner.ran == ["pay", "balance", "pay"]  # 3 and 3.0 are written differently


def test_what_is_declared_impure_always_runs(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    backend = Recorded(inner := Account(stateful=False), str(path), impure=["clock"])
    assert play(backend, "clock", "clock", "balance") == ["1", "2", "0"]
    assert play(backend, "clock", "balance") == ["4", "0"]
    assert [json.loads(line)["tool"] for line in path.read_text().splitlines()] == ["balance"]
    assert inner.ran.count("clock") == 3


def test_what_does_not_last_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    backend = Recorded(inner := Account(stateful=False), str(path))
    play(backend, "hang", "hang")
    for _ in range(2):
        with pytest.raises(ToolBackendError):
            play(backend, "away")
    assert inner.ran == ["hang", "hang", "away", "away"]
    assert path.read_text() == ""


def test_a_version_of_its_own_for_other_tools(tmp_path: Path) -> None:
    path = str(tmp_path / "record.jsonl")
    play(Recorded(Account(), path, version="1"), "balance")
    play(Recorded(inner := Account(), path, version="2"), "balance")
    assert inner.ran == ["balance"]


def test_only_replay_runs_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "record.jsonl")
    with pytest.raises(ConfigError, match="there is no file .* to replay"):
        Recorded(Account(), path, only_replay=True)
    play(Recorded(Account(), path), "balance")
    backend = Recorded(inner := Account(), path, only_replay=True)
    assert play(backend, "balance") == ["0"]
    with pytest.raises(ConfigError, match=r'holds no answer to pay\({"sum": 1}\); record it first'):
        play(backend, ("pay", {"sum": 1}))
    assert inner.ran == []


def test_a_killed_run_may_leave_half_a_line_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    play(Recorded(Account(), str(path)), "balance")
    whole = path.read_text()
    path.write_text(whole + whole[:20])
    assert play(Recorded(Account(), str(path), only_replay=True), "balance") == ["0"]
    play(Recorded(Account(), str(path)), "clock")
    assert play(Recorded(Account(), str(path), only_replay=True), "clock") == ["1"]
    path.write_text("{}\n" + whole)
    with pytest.raises(
        DataFileError, match=r"record.jsonl:1: not a recorded tool call \(KeyError: 'tool'\); delete the line"
    ):
        Recorded(Account(), str(path))


def test_an_unknown_impure_tool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Recorded.impure names 'clok'; the backend's tools are pay, balance, clock"):
        Recorded(Account(), str(tmp_path / "r"), impure=["clok"])


def test_the_contract_of_the_door(tmp_path: Path) -> None:
    backend = Recorded(PythonFunctions("mentor_pl.tools.arithmetic"), str(tmp_path / "record.jsonl"))
    check_tool_backend(backend, [ToolCall(call_id="1", name="add", arguments={"a": 1, "b": 2})])
    backend.close()
