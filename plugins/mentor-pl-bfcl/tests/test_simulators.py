from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mpmath
import pytest

from mentor_pl.files import read_references, write_references
from mentor_pl.messages import ToolCall, ToolStatus
from mentor_pl.testing import check_tool_backend, trajectory
from mentor_pl.trajectory import StopReason, Trajectory, Turn

pytest.importorskip("bfcl_eval")

from mentor_pl_bfcl.cases import cases_of  # noqa: E402
from mentor_pl_bfcl.references import CONVERTED, multi_turn_references  # noqa: E402
from mentor_pl_bfcl.reward import BFCLCorrect  # noqa: E402
from mentor_pl_bfcl.simulators import BFCLSimulators  # noqa: E402

REFERENCES = {reference.reference_id: reference for reference in multi_turn_references("multi_turn_base")}
FIRST = REFERENCES["multi_turn_base_0"]


def test_it_keeps_the_contract() -> None:
    check_tool_backend(BFCLSimulators(), [ToolCall(call_id="a", name="pwd")], FIRST)


def test_calls_change_the_state_of_their_own_session() -> None:
    backend = BFCLSimulators()
    with backend.session(FIRST) as one, backend.session(FIRST) as other:
        assert one(ToolCall(call_id="a", name="cd", arguments={"folder": "document"})).ok
        assert one(ToolCall(call_id="b", name="mkdir", arguments={"dir_name": "temp"})).ok
        assert "temp" in one(ToolCall(call_id="c", name="ls")).content
        assert "temp" not in other(ToolCall(call_id="c", name="ls")).content
        assert one.state is not None
        assert other.state is not None
        assert one.state() != other.state()
        wrong = one(ToolCall(call_id="d", name="cd", arguments={"nowhere": 1}))
        assert wrong.status is ToolStatus.ERROR
        assert one(ToolCall(call_id="e", name="_load_scenario", arguments={})).status is ToolStatus.ERROR


@pytest.mark.timeout(20)
def test_no_call_computes_for_ever() -> None:
    case_id = next(
        name for name, case in cases_of("multi_turn_base").items() if "MathAPI" in case.row["involved_classes"]
    )
    reference = REFERENCES[case_id]
    endless = [
        ("power", {"base": 10, "exponent": 10**9}),
        ("square_root", {"number": 2, "precision": 10**9}),
        ("logarithm", {"value": 2, "base": 3, "precision": 10**9}),
        ("multiply", {"a": "x" * 100, "b": 10**9}),
        ("power", {"base": 10**5000, "exponent": 900}),
    ]
    calls = [ToolCall(call_id=str(n), name=name, arguments=given) for n, (name, given) in enumerate(endless)]
    with BFCLSimulators().session(reference) as session:
        assert {session(call).status for call in calls} == {ToolStatus.ERROR}
        digits = mpmath.mp.dps
        precise = ToolCall(call_id="p", name="logarithm", arguments={"value": 8, "base": 2, "precision": 50})
        assert session(precise).ok
        assert mpmath.mp.dps == digits
    assert BFCLCorrect().score(trajectory("done", *calls), [reference]) == 0.0


def follow(case_id: str, left_out: int = 0) -> Trajectory:
    """The expected calls as a student would make them: all of a turn in one message, then an answer."""
    reference, case = REFERENCES[case_id], cases_of("multi_turn_base")[case_id]
    calls, turns = list(reference.tool_calls), list[Turn]()
    for position, expected in enumerate(case.truth):
        now, calls = calls[: len(expected)], calls[len(expected) :]
        if position == len(case.truth) - 1:
            now = now[: len(now) - left_out]
        parts = trajectory("done", *now).turns
        follow_up = reference.follow_ups[position] if position < len(reference.follow_ups) else None
        turns += [*parts[:-1], replace(parts[-1], follow_up=follow_up)]
    return Trajectory(reference_id=case_id, turns=tuple(turns), stop_reason=StopReason.ANSWERED)


def test_the_expected_calls_are_paid_in_all_200_base_cases() -> None:
    assert len(REFERENCES) == 200
    paid = {name: BFCLCorrect().score(follow(name), [reference]) for name, reference in REFERENCES.items()}
    assert [name for name, score in paid.items() if score != 1.0] == []
    assert BFCLCorrect().score(follow("multi_turn_base_0", left_out=1), [FIRST]) == 0.0
    broken_off = replace(follow("multi_turn_base_0"), stop_reason=StopReason.MAX_TURNS)
    assert BFCLCorrect().score(broken_off, [FIRST]) == 0.0


@pytest.mark.parametrize("category", CONVERTED)
def test_references_are_written_and_read_again(category: str, tmp_path: Path) -> None:
    converted = list(multi_turn_references(category))
    write_references(tmp_path / "r.jsonl", converted)
    assert read_references(tmp_path / "r.jsonl") == converted
    assert all(len(r.follow_ups) == len(cases_of(category)[r.reference_id].row["question"]) - 1 for r in converted)
    assert all({call.name for call in r.tool_calls} <= {tool.name for tool in r.tools} for r in converted)
