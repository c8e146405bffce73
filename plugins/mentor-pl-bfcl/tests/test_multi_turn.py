from __future__ import annotations

import ast
from typing import Any

import pytest

from mentor_pl.messages import ToolCall

pytest.importorskip("bfcl_eval")

from mentor_pl_bfcl.cases import cases_of  # noqa: E402
from mentor_pl_bfcl.multi_turn import turns_are_right, turns_in_python_are_right  # noqa: E402

BASE = list(cases_of("multi_turn_base").values())


def called(text: str, number: int) -> ToolCall:
    """Read an expected call whose arguments are all named."""
    parsed: Any = ast.parse(text, mode="eval").body
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in parsed.keywords}
    return ToolCall(call_id=str(number), name=parsed.func.id, arguments=arguments)


def test_the_expected_calls_are_right_in_all_200_base_cases() -> None:
    assert len(BASE) == 200
    wrong = [case.case_id for case in BASE if not turns_in_python_are_right(case, [[turn] for turn in case.truth])]
    assert wrong == []


def test_without_the_calls_of_one_turn_no_base_case_is_right() -> None:
    right: list[str] = []
    for case in BASE:
        left_out = max(index for index, turn in enumerate(case.truth) if turn)
        turns = [[turn] if index != left_out else [] for index, turn in enumerate(case.truth)]
        right += [case.case_id] if turns_in_python_are_right(case, turns) else []
    assert right == []


def test_with_one_call_less_no_base_case_is_right() -> None:
    right: list[str] = []
    for case in BASE:
        spoilt = max(index for index, turn in enumerate(case.truth) if turn)
        turns = [[turn[:-1] if index == spoilt else turn] for index, turn in enumerate(case.truth)]
        right += [case.case_id] if turns_in_python_are_right(case, turns) else []
    assert right == []


def test_a_conversation_that_broke_off_is_wrong() -> None:
    assert not turns_in_python_are_right(BASE[0], [[turn] for turn in BASE[0].truth[:-1]])


def test_calls_are_run_as_they_were_written_and_every_check_starts_anew() -> None:
    case = BASE[1]
    turns = [[[called(text, n) for n, text in enumerate(turn)]] for turn in case.truth]
    assert turns_are_right(case, turns)
    assert turns_are_right(case, turns)  # the simulators of the first check are gone
    malformed = ToolCall(call_id="m", name="", parse_error="no JSON")
    assert turns_are_right(case, [[*turns[0], [malformed]], *turns[1:]])  # it does nothing
    assert not turns_are_right(case, [[[malformed]], *turns[1:]])


@pytest.mark.parametrize("value", ["'; open('x', 'w'); '", "__import__('os')", "cd('..')"])
def test_values_stay_text(value: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call = ToolCall(call_id="a", name="cd", arguments={"folder": value})
    assert not turns_are_right(BASE[0], [[[call]], [], [], []])
    assert list(tmp_path.iterdir()) == []
