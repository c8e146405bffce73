from dataclasses import replace

import pytest

from mentor_pl.rewards.answers import AnswerPlace, final_answer, unboxed
from mentor_pl.testing import trajectory
from mentor_pl.trajectory import StopReason


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is \\boxed{7}.", "7"),
        ("First \\boxed{999}, no: \\boxed{7}.", "7"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed{[0,1)} and } a stray brace", "[0,1)"),
        ("\\boxed{\\{1, 2)} an escaped brace needs no partner", "\\{1, 2)"),
        ("\\boxed {8}", "8"),
        ("\\boxed{\\boxed{9}}", "9"),
        ("\\boxed{a\\\\}", "a\\\\"),
        ("I am not sure.", None),
        ("So \\boxed{}.", None),
        ("So \\boxed{ }.", None),
        ("\\boxed{7} or rather \\boxed{8", None),  # the last one counts, and it never ends
        ("\\boxed{7\\", None),
        ("", None),
    ],
)
def test_the_last_box_is_the_answer(text: str, answer: str | None) -> None:
    assert final_answer(trajectory(text)) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\\boxed{1}</think>\\boxed{2}", "2"),
        ("<think>\\boxed{1}</think>done", None),
        ("the prompt opened it: \\boxed{1}</think>\\boxed{2}", "2"),
        ("\\boxed{2}<think>never closed \\boxed{1}", None),
        ("<think>a</think>\\boxed{2}<think>b</think>\\boxed{3}", "3"),
    ],
)
def test_reasoning_holds_no_answer(text: str, answer: str | None) -> None:
    assert final_answer(trajectory(text)) == answer


@pytest.mark.parametrize(
    ("place", "text", "answer"),
    [
        ("only_box", "\\boxed{7}", "7"),
        ("only_box", "\\boxed{7} or \\boxed{8}", None),
        ("only_box", "\\boxed{7} and \\boxed{7}", None),
        ("text", "  Paris\n", "Paris"),
        ("text", "<think>London?</think>Paris", "Paris"),
        ("text", " ", None),
    ],
)
def test_other_places(place: AnswerPlace, text: str, answer: str | None) -> None:
    assert final_answer(trajectory(text), place) == answer


def test_who_did_not_finish_has_no_answer() -> None:
    assert (
        final_answer(trajectory("So the answer is \\boxed{7} and", stop_reason=StopReason.MAX_COMPLETION_TOKENS))
        is None
    )


def test_a_boxed_reference_answer_is_unboxed() -> None:
    assert unboxed("thus $\\boxed{\\frac12}$") == "\\frac12"
    assert unboxed(" 42 ") == "42"
    assert unboxed("\\boxed{}") == "\\boxed{}"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [({"text": "Paris"}, "Paris"), ({"value": 7}, "7"), ({"a": 1, "b": 2}, '{"a": 1, "b": 2}'), ({}, "{}")],
)
def test_a_tool_may_take_the_answer(arguments, answer):
    handed_in = replace(trajectory("no box"), stop_reason=StopReason.CALLED, submission=arguments)
    assert final_answer(handed_in) == answer
