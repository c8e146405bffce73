import json

import pytest

from mentor_pl.errors import DataFileError
from mentor_pl.files import iter_trajectories, trajectory_from_row, trajectory_to_row
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolStatus
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn


def call(name, arguments, call_id="c1"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def row(*messages, **fields):
    return {"reference_id": "r", "messages": list(messages), "finished": True, **fields}


SAMPLED = Trajectory(
    reference_id="r",
    sample_index=3,
    turns=(
        Turn(
            prompt_ids=(1, 2),
            completion=Completion(token_ids=(5, 6, 7), logprobs=(-0.5, -0.25, -1.0), policy_version=4),
            message=Message(
                role="assistant",
                content="Let me see.",
                tool_calls=(
                    ToolCall(call_id="c1", name="add", arguments={"a": 1, "b": 2}),
                    ToolCall(call_id="c2", name="ad", parse_error="not JSON"),
                ),
            ),
            tool_results=(
                ToolResult(call_id="c1", content="3", duration_s=0.125, output_chars=1),
                ToolResult(call_id="c2", content="not JSON", status=ToolStatus.ERROR, output_chars=8),
            ),
        ),
        Turn(
            prompt_ids=(8,),
            completion=Completion(token_ids=(9,), logprobs=(-2.0,), finish_reason="length", policy_version=4),
            message=Message(role="assistant", content="I think \ud800"),
        ),
    ),
    stop_reason=StopReason.MAX_COMPLETION_TOKENS,
)


def test_a_sampled_trajectory_reads_back_equal_with_its_tokens():
    written = json.loads(json.dumps(trajectory_to_row(SAMPLED, token_ids=True)))
    assert trajectory_from_row(written, "t:1") == SAMPLED


def test_a_row_keeps_counts_and_ledger_but_no_tokens_by_default():
    written = trajectory_to_row(SAMPLED, reward=0.16)
    assert written["reward"] == 0.16
    assert written["stop_reason"] == "max_completion_tokens"
    assert [m.get("num_tokens") for m in written["messages"]] == [3, None, None, 1]
    assert written["messages"][2] == {
        "role": "tool",
        "content": "not JSON",
        "tool_call_id": "c2",
        "name": "ad",
        "status": "error",
        "duration_s": 0.0,
        "output_chars": 8,
    }
    assert "token_ids" not in written["messages"][0]
    back = trajectory_from_row(written, "t:1")
    assert back.tool_results == SAMPLED.tool_results
    assert back.stop_reason is StopReason.MAX_COMPLETION_TOKENS


@pytest.mark.parametrize(
    ("finished", "stop_reason"), [(True, StopReason.ANSWERED), (False, StopReason.MAX_COMPLETION_TOKENS)]
)
def test_finished_decides_where_no_stop_reason_is_given(finished, stop_reason):
    trajectory = trajectory_from_row(row({"role": "assistant", "content": "5"}, finished=finished), "t:1")
    assert trajectory.stop_reason is stop_reason
    assert trajectory.finished is finished


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ('{"a": 1', "the arguments are not JSON"),
        ("[1]", "the arguments are not a JSON object but list"),
        (5, "the arguments are not a JSON object but int"),
    ],
)
def test_malformed_arguments_of_a_student_are_data(arguments, error):
    trajectory = trajectory_from_row(row({"role": "assistant", "tool_calls": [call("add", arguments)]}), "t:1")
    (written,) = trajectory.tool_calls
    assert written.name == "add"
    assert written.arguments == {}
    assert error in (written.parse_error or "")
    assert trajectory_from_row(trajectory_to_row(trajectory), "t:1") == trajectory


def test_results_are_put_in_the_order_of_their_calls():
    trajectory = trajectory_from_row(
        row(
            {"role": "assistant", "tool_calls": [call("add", "{}", "c1"), call("ceil", "{}", "c2")]},
            {"role": "tool", "tool_call_id": "c2", "content": "two"},
            {"role": "tool", "tool_call_id": "c1", "content": "one", "status": "timeout"},
        ),
        "t:1",
    )
    assert [(r.content, r.status) for r in trajectory.tool_results] == [
        ("one", ToolStatus.TIMEOUT),
        ("two", ToolStatus.OK),
    ]


def test_the_prompt_is_left_out():
    trajectory = trajectory_from_row(
        row({"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}), "t:1"
    )
    assert trajectory.final_text == "5"
    assert len(trajectory.turns) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(), "field 'messages': expected at least one assistant message"),
        (row({"role": "tool", "content": "5"}), "field 'messages[0].role': expected assistant, or tool after one"),
        (
            row({"role": "assistant", "content": "5"}, {"role": "tool", "content": "5"}),
            "field 'messages[1]': expected at most 0 tool messages",
        ),
        (
            row({"role": "assistant", "content": "5"}, {"role": "user", "content": "?"}),
            "field 'messages[1].role': expected assistant, or tool after one",
        ),
        (row({"role": "assistant", "content": "5"}, finished="yes"), "field 'finished': expected true or false"),
        (
            row({"role": "assistant", "content": "5"}, stop_reason="bored"),
            "field 'stop_reason': expected one of answered",
        ),
        (
            row({"role": "assistant", "content": "5"}, stop_reason="max_turns"),
            "field 'stop_reason': expected one that fits finished=True",
        ),
        (row({"role": "assistant", "content": "5"}, reference_id=None), "field 'reference_id': expected a text"),
        (row({"role": "assistant", "content": "5"}, sample_index="1"), "field 'sample_index': expected a whole number"),
    ],
)
def test_a_malformed_field_is_named(tmp_path, bad, message):
    path = tmp_path / "traj.jsonl"
    path.write_text(json.dumps(bad) + "\n")
    with pytest.raises(DataFileError) as failure:
        list(iter_trajectories(path))
    assert str(failure.value).startswith(f"{path}:1: field ")
    assert message in str(failure.value)


SAID = {"role": "assistant", "content": "x"}
CALLED = {"role": "assistant", "tool_calls": [call("add", "{}", "c")]}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(SAID, stop_reason=[]), "field 'stop_reason': expected one of answered"),
        (row(SAID, stop_reason={}), "field 'stop_reason': expected one of answered"),
        (row(SAID, sample_index=True), "field 'sample_index': expected a whole number, found bool true"),
        (row({**SAID, "token_ids": 5}), "field 'messages[0].token_ids': expected a valid list, found int 5"),
        (row({**SAID, "logprobs": "abc"}), "field 'messages[0].logprobs': expected a valid list, found str"),
        (row({**SAID, "logprobs": [1, "a"]}), "field 'messages[0].logprobs[1]': expected a number, found str"),
        (row(CALLED, {"role": "tool", "content": "5", "status": []}), "field 'messages[1].status': expected one of ok"),
        (
            row(CALLED, {"role": "tool", "content": "5", "duration_s": "x"}),
            "field 'messages[1].duration_s': expected a number",
        ),
    ],
)
def test_fields_of_another_type_are_refused_and_never_raise_anything_else(bad, message):
    with pytest.raises(DataFileError) as failure:
        trajectory_from_row(bad, "t:1")
    assert str(failure.value).startswith(f"t:1: {message}")


def test_null_fields_of_the_ledger_are_absent_ones():
    nulls = dict.fromkeys(("status", "duration_s", "output_chars"))
    sampled = dict.fromkeys(("token_ids", "logprobs", "prompt_ids", "finish_reason", "policy_version"))
    told = {"role": "tool", "tool_call_id": "c", "content": "five", **nulls}
    read = trajectory_from_row(row({**CALLED, **sampled}, told, SAID, sample_index=None, stop_reason=""), "t:1")
    assert read.tool_results == (ToolResult(call_id="c", content="five", output_chars=4),)
    assert read.turns[0].completion == Completion()


@pytest.mark.parametrize("item", [{"function": None}, {"function": 5}, None, {"type": "custom", "custom": {}}, "add"])
def test_a_students_call_of_any_form_is_data(item):
    read = trajectory_from_row(row({"role": "assistant", "tool_calls": [item]}, SAID), "t:1")
    assert read.tool_calls[0].parse_error is not None


def test_state_submission_and_the_users_turns_are_kept():
    row = {
        "reference_id": "p",
        "finished": True,
        "stop_reason": "called",
        "submission": {"answer": 6},
        "final_state": {"stock": [1]},
        "environment_score": 0.5,
        "messages": [
            {"role": "assistant", "content": "4"},
            {"role": "user", "content": "And 3+3?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c", "function": {"name": "submit", "arguments": '{"answer": 6}'}}],
            },
            {"role": "tool", "content": "thanks", "tool_call_id": "c", "final": True},
        ],
    }
    trajectory = trajectory_from_row(row, "f:1")
    assert [turn.follow_up for turn in trajectory.turns] == ["And 3+3?", None]
    assert (trajectory.submission, trajectory.final_state, trajectory.environment_score) == (
        {"answer": 6},
        {"stock": [1]},
        0.5,
    )
    assert trajectory.finished and trajectory.tool_results[0].final
    assert trajectory_from_row(trajectory_to_row(trajectory), "f:1") == trajectory


def test_given_turns_and_a_user_who_spoke_last_go_there_and_back():
    turns = tuple(
        Turn(completion=Completion(), message=Message(role="assistant", content=text), follow_up=said)
        for text, said in (("4", "And 3+3?"), ("6", "And 4+4?"))
    )
    cut_off = Trajectory(reference_id="p", turns=turns, stop_reason=StopReason.MAX_CONTEXT, given_turns=1)
    assert trajectory_to_row(cut_off)["given_turns"] == 1
    assert trajectory_from_row(trajectory_to_row(cut_off), "f:1") == cut_off
    with pytest.raises(DataFileError, match="f:1: field 'given_turns': expected at most 2"):
        trajectory_from_row({**trajectory_to_row(cut_off), "given_turns": 3}, "f:1")


@pytest.mark.parametrize(("field", "value"), [("given_turns", -1), ("submission", [6]), ("environment_score", 1.5)])
def test_a_wrong_state_field_is_named(field, value):
    row = {"reference_id": "p", "finished": True, "messages": [{"role": "assistant", "content": "4"}], field: value}
    with pytest.raises(DataFileError, match=f"f:1: field '{field}'"):
        trajectory_from_row(row, "f:1")
