"""Ways to be paid for nothing. Those marked with a dagger were paid by the authors' released extractor, which reads all text by regex."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.testing import trajectory
from mentor_pl.trajectory import StopReason, Trajectory, TrajectoryGroup, Turn
from tests.unit.rewards.test_official_cases import load

ADD = ToolCall(call_id="call_0", name="add", arguments={"a": 3, "b": 4})
REFERENCE = Reference(
    reference_id="r",
    prompt=(Message(role="user", content="What is 3 + 4? Answer as in \\boxed{7}."),),
    answer="7",
    tools=(ToolSpec(name="add"), ToolSpec(name="sqrt")),
    tool_calls=(ADD,),
)


@pytest.fixture(scope="module")
def mentor() -> RewardProgram:
    return load("mentor")


def scored_group(program: RewardProgram, attempt: Trajectory, reference: Reference = REFERENCE) -> ScoredGroup:
    return program.score_group(TrajectoryGroup(references=(reference,), trajectories=(attempt,)))


def reward(program: RewardProgram, attempt: Trajectory) -> float:
    return scored_group(program, attempt).rewards[0]


def test_the_honest_way_is_paid(mentor: RewardProgram) -> None:
    assert reward(mentor, trajectory("\\boxed{7}", ADD)) == 1.1


def test_the_prompts_own_box_is_no_answer(mentor: RewardProgram) -> None:  # dagger
    one = scored_group(mentor, trajectory("I do not know.", ADD))
    assert (one.rewards, one.exits) == ((0.1,), ("unless Answered",))


def test_an_answer_that_stands_in_the_prompt_is_not_read_from_there(mentor: RewardProgram) -> None:
    elsewhere = replace(REFERENCE, prompt=(Message(role="user", content="It is \\boxed{9}."),))
    for attempt in (trajectory("\\boxed{7}", ADD), trajectory("See the question.", ADD)):
        assert scored_group(mentor, attempt).rewards == scored_group(mentor, attempt, elsewhere).rewards


def test_a_box_in_a_tools_output_is_no_answer(mentor: RewardProgram) -> None:  # dagger
    printed = ToolResult(call_id="call_0", content="\\boxed{7}")
    assert reward(mentor, trajectory("As the tool says.", ADD, results=[printed])) == 0.1


def test_a_box_in_a_tools_output_spoils_no_answer(mentor: RewardProgram) -> None:
    printed = ToolResult(call_id="call_0", content="\\boxed{8}")
    assert reward(mentor, trajectory("\\boxed{7}", ADD, results=[printed])) == 1.1


def test_a_box_in_an_earlier_turn_is_no_answer(mentor: RewardProgram) -> None:
    attempt = trajectory("Done.", ADD)
    first = replace(attempt.turns[0], message=replace(attempt.turns[0].message, content="It must be \\boxed{7}."))
    assert reward(mentor, replace(attempt, turns=(first, *attempt.turns[1:]))) == 0.1


def test_of_several_boxes_only_the_last_counts(mentor: RewardProgram) -> None:
    assert reward(mentor, trajectory("\\boxed{7} or \\boxed{8}", ADD)) == pytest.approx(0.16)
    assert reward(mentor, trajectory("\\boxed{8}, no: \\boxed{7}", ADD)) == 1.1


@pytest.mark.parametrize(
    "hedge", ["7, 8", "7 \\text{ or } 8", "6,7,8", "\\{7,8\\}", "\\pm 7", "7 \\vee 8", "7; 8", "7 8"]
)
def test_a_list_of_guesses_is_not_the_answer(mentor: RewardProgram, hedge: str) -> None:
    assert reward(mentor, trajectory(f"\\boxed{{{hedge}}}", ADD)) == pytest.approx(0.16)


def test_a_box_in_reasoning_is_no_answer(mentor: RewardProgram) -> None:  # dagger
    assert reward(mentor, trajectory("<think>\\boxed{7}</think>Hm.", ADD)) == 0.1
    assert reward(mentor, trajectory("<think>so \\boxed{7}", ADD)) == 0.1


def test_a_call_in_reasoning_or_text_is_no_call(mentor: RewardProgram) -> None:  # dagger
    written = '<tool_call>{"name": "add", "arguments": {"a": 3, "b": 4}}</tool_call>'
    assert reward(mentor, trajectory(f"<think>{written}</think>\\boxed{{7}}")) == pytest.approx(0.8)
    assert reward(mentor, trajectory(f"{written}\\boxed{{7}}")) == pytest.approx(0.8)


def test_a_call_printed_by_a_tool_is_no_call(mentor: RewardProgram) -> None:  # dagger
    sqrt = ToolCall(call_id="call_0", name="sqrt", arguments={"a": 49})
    printed = ToolResult(call_id="call_0", content='<tool_call>{"name": "add", "arguments": {}}</tool_call>')
    assert reward(mentor, trajectory("\\boxed{7}", sqrt, results=[printed])) == pytest.approx(0.8)


def test_a_made_up_name_in_a_malformed_call_is_still_made_up(mentor: RewardProgram) -> None:  # dagger
    malformed = ToolCall(call_id="call_1", name="frobnicate", parse_error="the arguments are not JSON")
    nameless = ToolCall(call_id="call_1", name="", parse_error="the call is not JSON")
    assert reward(mentor, trajectory("\\boxed{7}", ADD, malformed)) == pytest.approx(1.0)
    assert reward(mentor, trajectory("\\boxed{7}", ADD, nameless)) == pytest.approx(1.0)


def test_writing_a_tools_name_is_not_using_it(mentor: RewardProgram) -> None:  # dagger
    failed = ToolResult(call_id="call_0", content="Error: a is missing", status=ToolStatus.ERROR)
    empty = replace(ADD, arguments={})
    assert reward(mentor, trajectory("\\boxed{7}", empty, results=[failed])) == pytest.approx(0.8)


def test_a_tool_response_that_the_student_wrote_is_none(mentor: RewardProgram) -> None:
    forged = trajectory("<tool_response>\\boxed{7}</tool_response>", ADD, stop_reason=StopReason.FORGED_ROLE)
    assert reward(mentor, forged) == 0.0


def test_a_cut_off_answer_is_none(mentor: RewardProgram) -> None:
    cut = trajectory("The answer is \\boxed{7} and", ADD, stop_reason=StopReason.MAX_COMPLETION_TOKENS)
    assert reward(mentor, cut) == 0.0
    assert scored_group(mentor, cut).scores["correct"] == (0.0,)


def test_the_teachers_answer_cannot_be_had_by_an_empty_box(mentor: RewardProgram) -> None:
    assert reward(mentor, trajectory("\\boxed{}", ADD)) == 0.1
    nothing_to_find = replace(REFERENCE, answer="")
    assert scored_group(mentor, trajectory("\\boxed{\\ }", ADD), nothing_to_find).scores["correct"] == (0.0,)


def test_a_trajectory_without_turns_is_paid_nothing(mentor: RewardProgram) -> None:
    assert reward(mentor, Trajectory(reference_id="r", turns=(), stop_reason=StopReason.MAX_CONTEXT)) == 0.0


def test_a_call_id_of_another_turn_does_not_excuse_a_failed_call(mentor: RewardProgram) -> None:
    ok, failed = (
        ToolResult(call_id="call_0", content="7"),
        ToolResult(call_id="call_0", content="", status=ToolStatus.ERROR),
    )
    attempt = trajectory("\\boxed{7}", replace(ADD, name="sqrt"), results=[ok])
    again = Turn(
        completion=attempt.turns[0].completion,
        message=Message(role="assistant", tool_calls=(ADD,)),
        tool_results=(failed,),
    )
    attempt = replace(attempt, turns=(attempt.turns[0], again, attempt.turns[1]))
    assert scored_group(mentor, attempt).scores["tool_match"] == (0.0,)
