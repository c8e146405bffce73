import json

import pytest

from mentor_pl.errors import DataFileError
from mentor_pl.files import read_references, reference_from_row, reference_to_row, write_references
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference, group_by_prompt

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Return a + b.",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
    },
}
CHAT = {
    "id": "sum-1",
    "messages": [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 3?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "assistant", "content": "\\boxed{5}"},
    ],
    "answer": 5,
    "tools": [ADD],
    "teacher": "oracle",
}
SUM = Reference(
    reference_id="sum-1",
    prompt=(Message(role="system", content="Use tools."), Message(role="user", content="What is 2 + 3?")),
    answer="5",
    tools=(
        ToolSpec(
            name="add",
            description="Return a + b.",
            parameters={"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
        ),
    ),
    tool_calls=(ToolCall(call_id="c1", name="add", arguments={"a": 2, "b": 3}),),
    messages=(
        Message(role="assistant", tool_calls=(ToolCall(call_id="c1", name="add", arguments={"a": 2, "b": 3}),)),
        Message(role="tool", content="5", tool_call_id="c1", name="add"),
        Message(role="assistant", content="\\boxed{5}"),
    ),
    teacher="oracle",
)


def test_an_openai_chat_row_is_split_after_its_last_user_message():
    assert reference_from_row(CHAT, "refs.jsonl:1") == SUM


def test_a_conversation_of_several_user_turns_keeps_the_earlier_ones_in_the_prompt():
    earlier = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
    reference = reference_from_row({**CHAT, "messages": earlier + CHAT["messages"][1:]}, "refs.jsonl:1")
    assert [m.role for m in reference.prompt] == ["user", "assistant", "user"]
    assert reference.messages == SUM.messages


@pytest.mark.parametrize(
    "calls",
    [
        ["add", "add"],
        [{"name": "add"}, {"name": "add", "arguments": {}}],
        [{"id": "call_0", "type": "function", "function": {"name": "add", "arguments": "{}"}}, "add"],
    ],
)
def test_three_ways_to_write_calls_mean_the_same(calls):
    row = {"id": 7, "prompt": "2 + 3 + 4?", "answer": "9", "tools": ["add"], "tool_calls": calls}
    assert reference_from_row(row, "refs.jsonl:1") == Reference(
        reference_id="7",
        prompt=(Message(role="user", content="2 + 3 + 4?"),),
        answer="9",
        tools=(ToolSpec(name="add"),),
        tool_calls=(ToolCall(call_id="call_0", name="add"), ToolCall(call_id="call_1", name="add")),
    )


def test_a_prompt_beside_the_solution_or_the_whole_conversation():
    prompt = CHAT["messages"][:2]
    assert reference_from_row({**CHAT, "prompt": prompt}, "r:1") == SUM
    assert reference_from_row({**CHAT, "prompt": prompt, "messages": CHAT["messages"][2:]}, "r:1") == SUM


def test_written_references_read_back_equal_and_are_openai_chat_rows(tmp_path):
    bare = Reference(
        reference_id="b",
        prompt=(Message(role="user", content="ü \U0001f600"),),
        answer="",
        tools=(ToolSpec(name="add"), SUM.tools[0].__class__(name="ceil", description="Round up.")),
        tool_calls=(ToolCall(call_id="x", name="add", arguments={"a": 1.5}),),
        domain="toy",
    )
    path = tmp_path / "refs.jsonl"
    assert write_references(path, [SUM, bare]) == 2
    assert read_references(path) == [SUM, bare]
    first = json.loads(path.read_text().splitlines()[0])
    assert first["tools"] == [ADD]
    assert first["messages"][2]["tool_calls"] == CHAT["messages"][2]["tool_calls"]
    assert "tool_calls" not in first


def changed(**fields):
    row = {**CHAT, **fields}
    return {key: value for key, value in row.items() if value is not ...}


def with_call(**call):
    messages = [dict(m) for m in CHAT["messages"]]
    messages[2] = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", **call}]}
    return changed(messages=messages)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (changed(tools=...), "field 'tools': expected a list of tools, found nothing; name the tools offered"),
        (changed(tools=["add", ADD]), "field 'tools[1]': expected another name, found str \"add\""),
        (changed(tools=[{"description": "?"}]), "field 'tools[0].name': expected the tool's name, found nothing"),
        (changed(answer=True), "field 'answer': expected a text or a number, found bool true"),
        (changed(messages=...), "field 'prompt': expected a text or a list of messages"),
        (
            changed(messages=..., prompt="2 + 3?", answer=...),
            "field 'answer': expected a text or a number, found nothing",
        ),
        (changed(messages=CHAT["messages"][2:]), "field 'messages': expected a prompt that ends in a user message"),
        (changed(prompt="other"), "field 'messages': expected only what follows the prompt"),
        (
            with_call(function={"name": "add", "arguments": '{"a": 2'}),
            "field 'messages[2].tool_calls[0].function.arguments': expected a JSON object",
        ),
        (
            with_call(function={"arguments": "{}"}),
            "field 'messages[2].tool_calls[0].function.name': expected the tool's name, found nothing",
        ),
        (
            with_call(id="other", function={"name": "add", "arguments": "{}"}),
            "field 'messages[3].tool_call_id': expected the id of an unanswered call",
        ),
        (
            changed(messages=[*CHAT["messages"][:2], {"role": "assistant", "function_call": {"name": "add"}}]),
            "field 'messages[2].function_call': expected nothing (it is deprecated)",
        ),
        (
            changed(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
            'field \'messages[0].content[0]\': expected {"type": "text", "text"}',
        ),
        (changed(messages=[{"role": "bot", "content": ""}]), "field 'messages[0].role': expected one of system,"),
        (changed(teacher="half \ud800"), "field 'teacher': expected Unicode text"),
        (changed(domain=["a"]), "field 'domain': expected a text or a number, found list"),
    ],
)
def test_a_malformed_field_is_named(tmp_path, row, message):
    path = tmp_path / "refs.jsonl"
    path.write_text(json.dumps(CHAT) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataFileError) as failure:
        read_references(path)
    assert str(failure.value).startswith(f"{path}:2: field ")
    assert message in str(failure.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "refs.jsonl").write_text("\n")
    with pytest.raises(DataFileError, match="refs.jsonl: expected at least one reference, found none"):
        read_references(tmp_path / "refs.jsonl")


def test_an_id_twice_is_refused(tmp_path):
    path = tmp_path / "refs.jsonl"
    path.write_text((json.dumps(CHAT) + "\n") * 2)
    with pytest.raises(DataFileError, match="expected each id once, found 'sum-1' again at reference 2"):
        read_references(path)


def test_rows_without_id_are_numbered_by_line(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text("\n" + json.dumps(changed(id=..., answer=...)) + "\n")
    (reference,) = read_references(path)
    assert (reference.reference_id, reference.answer) == ("chats-2", "")


def test_bad_lines_may_be_left_out(tmp_path):
    path = tmp_path / "refs.jsonl"
    path.write_text(json.dumps(CHAT) + "\n" + "{}\n")
    assert read_references(path, max_bad_lines=1) == [SUM]


def test_a_reference_row_round_trips_when_calls_differ_from_messages():
    row = {**CHAT, "tool_calls": ["add", "ceil"]}
    reference = reference_from_row(row, "r:1")
    assert [call.name for call in reference.tool_calls] == ["add", "ceil"]
    assert reference_from_row(reference_to_row(reference), "r:1") == reference


def test_calls_that_nothing_ran_stand_beside_the_message_that_makes_them():
    calls = (ToolCall(call_id="x", name="add", arguments={"a": 1.5}),)
    reference = Reference(
        reference_id="a",
        prompt=(Message(role="user", content="q"),),
        answer="",
        tools=(ToolSpec(name="add"),),
        tool_calls=calls,
        messages=(Message(role="assistant", tool_calls=calls),),
    )
    row = reference_to_row(reference)
    assert row["tool_calls"] == row["messages"][1]["tool_calls"] == [calls[0].to_openai()]
    assert reference_from_row(row, "r:1") == reference


def plain(**changes):
    return {"id": "a", "prompt": "q", "answer": "1", "tools": ["add"], **changes}


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_are_absent_in_every_field(nothing):
    call = {"id": nothing, "type": nothing, "function": nothing, "name": "add", "arguments": nothing}
    empty = {
        "content": nothing,
        "tool_calls": nothing,
        "function_call": nothing,
        "tool_call_id": nothing,
        "name": nothing,
    }
    row = {
        "id": nothing,
        "prompt": nothing,
        "messages": [
            {**empty, "role": "user", "content": "q", "weight": nothing},
            {**empty, "role": "assistant", "tool_calls": [call], "reasoning_content": nothing, "weight": nothing},
            {**empty, "role": "tool", "content": "3"},
            {**empty, "role": "assistant", "function_call": {"name": nothing, "arguments": nothing}},
        ],
        "answer": nothing,
        "answers": nothing,
        "tools": [{"type": nothing, "function": nothing, "name": "add", "description": nothing, "parameters": nothing}],
        "tool_calls": nothing,
        "teacher": nothing,
        "domain": nothing,
    }
    assert reference_from_row(row, "f:1", default_id="f-1") == Reference(
        reference_id="f-1",
        prompt=(Message(role="user", content="q"),),
        answer="",
        tools=(ToolSpec(name="add"),),
        tool_calls=(ToolCall(call_id="call_0", name="add"),),
        messages=(
            Message(role="assistant", tool_calls=(ToolCall(call_id="call_0", name="add"),)),
            Message(role="tool", content="3", tool_call_id="call_0", name="add"),
            Message(role="assistant"),
        ),
    )


def turn(number, *, call_id="c", said=None):
    call = {"id": call_id, "type": "function", "function": {"name": "add", "arguments": {"a": number}}}
    return [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": said or str(number)},
    ]


def test_ids_that_begin_anew_in_each_turn_are_made_unique():
    messages = [{"role": "user", "content": "q"}, *turn(1), *turn(2), *turn(3, call_id="call_1")]
    reference = reference_from_row({"id": "a", "messages": messages, "tools": ["add"]}, "f:1")
    assert [call.call_id for call in reference.tool_calls] == ["c", "call_1", "call_2"]
    assert [(m.tool_call_id, m.content) for m in reference.messages if m.role == "tool"] == [
        ("c", "1"),
        ("call_1", "2"),
        ("call_2", "3"),
    ]


def test_one_id_twice_in_a_turn_is_answered_in_order():
    calls = [{"id": "c", "function": {"name": "add", "arguments": {"a": n}}} for n in (1, 2)]
    told = [{"role": "tool", "tool_call_id": "c", "content": text} for text in ("one", "two")]
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": calls}, *told]
    reference = reference_from_row({"id": "a", "messages": messages, "tools": ["add"]}, "f:1")
    assert [m.tool_call_id for m in reference.messages[1:]] == [call.call_id for call in reference.tool_calls]
    assert len({call.call_id for call in reference.tool_calls}) == 2
    again = reference_from_row(plain(tool_calls=[{"id": "c", "name": "add"}, {"id": "c", "name": "add"}]), "f:1")
    assert len({call.call_id for call in again.tool_calls}) == 2


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ({"name": "add", "arguments": '{"a": 1e999}'}, "the number 1e999 is too large"),
        ({"name": "add", "arguments": '{"a": [NaN]}'}, "NaN is not JSON"),
        ({"name": "add", "arguments": '{"a": "\\ud800"}'}, "half of a surrogate pair"),
        ({"name": "add", "arguments": "[" * 100 + "]" * 100}, "nested deeper than 64 levels"),
        ({"type": "custom", "custom": {"name": "add"}}, 'expected "function"'),
        ({"type": "function", "function": []}, "expected an object, found list"),
    ],
)
def test_calls_that_no_file_can_hold_are_refused_with_their_place(call, problem):
    with pytest.raises(DataFileError, match=r"^f:1: field 'tool_calls\[0\]") as failure:
        reference_from_row(plain(tool_calls=[call]), "f:1")
    assert problem in str(failure.value)


def test_turns_of_weight_zero_are_context_only_and_stay_so():
    messages = [{"role": "user", "content": "q"}, *turn(1), {"role": "assistant", "content": "4", "weight": 1}]
    messages[1]["weight"] = 0.0
    reference = reference_from_row({"id": "a", "messages": messages, "tools": ["add"]}, "f:1")
    assert [m.trained for m in reference.messages if m.role == "assistant"] == [False, True]
    assert reference_from_row(reference_to_row(reference), "f:1") == reference
    messages[1]["weight"] = 0.5
    with pytest.raises(DataFileError, match=r"field 'messages\[1\].weight': expected 0 or 1, found float 0.5"):
        reference_from_row({"id": "a", "messages": messages, "tools": ["add"]}, "f:1")


def test_reasoning_is_kept_beside_the_content():
    think = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    rows = [{"role": "user", "content": "q"}, {"role": "assistant", "content": [think, {"type": "text", "text": "4"}]}]
    for message in (rows[1], {"role": "assistant", "content": "4", "reasoning": "hm"}):
        reference = reference_from_row({"id": "a", "messages": [rows[0], message], "tools": []}, "f:1")
        assert reference.messages == (Message(role="assistant", content="4", reasoning="hm"),)
        assert reference_from_row(reference_to_row(reference), "f:1") == reference


def test_further_fields_and_several_answers_go_through():
    row = plain(answer=["Paris", 2], answers=["2", "paris", None], state={"orders": [1]}, level=None)
    reference = reference_from_row(row, "f:1")
    assert (reference.answer, reference.other_answers) == ("Paris", ("2", "paris"))
    assert reference.answers == ("Paris", "2", "paris")
    assert reference.fields == {"state": {"orders": [1]}}
    written = reference_to_row(reference)
    assert written["state"] == {"orders": [1]}
    assert reference_from_row(written, "f:1") == reference
    assert hash(reference) == hash(reference_from_row(written, "f:1"))
    with pytest.raises(DataFileError, match=r"field 'answer\[1\]': expected a text or a number, found dict"):
        reference_from_row(plain(answer=["a", {}]), "f:1")


def test_a_row_nested_beyond_measure_is_refused_with_its_line(tmp_path):
    path = tmp_path / "deep.jsonl"
    path.write_text('\n{"id":"a","prompt":"q","answer":1,"tools":[],"x":' + "[" * 985 + "]" * 985 + "}\n")
    with pytest.raises(
        DataFileError, match=r"deep.jsonl:2: expected one JSON object, found values nested deeper than 64"
    ):
        read_references(path)


def test_what_a_task_needs_besides_is_kept_and_written_again():
    row = {
        "id": "s1",
        "prompt": "Ship order 7.",
        "answers": ["done", 7],
        "tools": ["ship"],
        "follow_ups": ["And order 8."],
        "initial_state": {"orders": [7, 8]},
        "expected_state": {"orders": []},
        "difficulty": "hard",
        "policy": {"refunds": False},
    }
    reference = reference_from_row(row, "f:1")
    assert reference.answers == ("done", "7")
    assert reference.follow_ups == ("And order 8.",)
    assert (reference.initial_state, reference.expected_state) == ({"orders": [7, 8]}, {"orders": []})
    assert dict(reference.fields) == {"difficulty": "hard", "policy": {"refunds": False}}
    assert reference_from_row(reference_to_row(reference), "f:1") == reference


@pytest.mark.parametrize("with_prompt", [False, True])
def test_the_last_user_messages_are_the_follow_ups(with_prompt):
    said = [("user", "2+2?"), ("assistant", "4"), ("user", "And 3+3?"), ("assistant", "6")]
    messages = [{"role": role, "content": text} for role, text in said]
    row = {"id": "m", "messages": messages, "tools": [], "follow_ups": ["And 3+3?"]}
    if with_prompt:
        row |= {"prompt": "2+2?", "messages": messages[1:]}
    reference = reference_from_row(row, "f:1")
    assert [message.content for message in reference.prompt] == ["2+2?"]
    assert [message.content for message in reference.messages] == ["4", "And 3+3?", "6"]


def test_prompts_that_start_from_another_state_or_offer_other_schemas_are_not_one_prompt():
    base = {"prompt": "?", "answer": "", "tools": [{"name": "f", "parameters": {"type": "object"}}]}
    rows = [
        base,
        {**base, "difficulty": 2},
        {**base, "initial_state": {"a": 1}},
        {**base, "tools": [{"name": "f", "parameters": {"type": "object", "required": ["x"]}}]},
        {**base, "follow_ups": ["More."]},
    ]
    references = [reference_from_row({"id": str(i), **row}, "f:1") for i, row in enumerate(rows)]
    assert [[r.reference_id for r in group] for group in group_by_prompt(references)] == [
        ["0", "1"],
        ["2"],
        ["3"],
        ["4"],
    ]
    by_difficulty = group_by_prompt(references[:2] + references[:1], fields=["difficulty"])
    assert [[r.reference_id for r in group] for group in by_difficulty] == [["0", "0"], ["1"]]
