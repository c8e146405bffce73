import json

import pytest

from mentor_pl.errors import DataFileError
from mentor_pl.files import read_references
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.convert import convert
from mentor_pl.references.converters import CONVERTERS, Rejected, bfcl, chat, mentor_parquet
from mentor_pl.references.replay import find_fault
from mentor_pl.rewards.correct import Correct
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox


def write(path, *rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def case(case_id, **changes):
    function = {
        "name": "shop.find",
        "description": "Find wares.",
        "parameters": {
            "type": "dict",
            "properties": {
                "type": {"type": "string"},
                "price": {"type": "float"},
                "sizes": {"type": "array", "items": {"type": "integer"}},
                "place": {"type": "dict", "properties": {"city": {"type": "string"}}},
                "anything": {"type": "any"},
            },
            "required": ["type"],
        },
    }
    question = [[{"role": "user", "content": "Find a red hat."}]]
    return {"id": case_id, "question": question, "function": [function], **changes}


def test_bfcl_cases_become_prompts_with_expected_calls(tmp_path):
    path = write(tmp_path / "BFCL_v4_multiple.json", case("m_0"))
    expected = {
        "type": ["hat", "cap"],
        "price": [9.5],
        "sizes": [[1, 2]],
        "place": [{"city": ["Rome", "Roma"], "street": ["", "x"]}],
        "anything": ["", None],
    }
    write(tmp_path / "possible_answer" / path.name, {"id": "m_0", "ground_truth": [{"shop.find": expected}]})
    (reference,) = bfcl(path)
    assert not isinstance(reference, Rejected)
    assert reference.tool_calls == (
        ToolCall(
            call_id="call_0",
            name="shop.find",
            arguments={"type": "hat", "price": 9.5, "sizes": [1, 2], "place": {"city": "Rome"}},
        ),
    )
    assert (reference.answer, reference.domain) == ("", "BFCL_v4_multiple")
    parameters = reference.tools[0].parameters
    assert parameters["type"] == "object"
    assert parameters["properties"] == {
        "type": {"type": "string"},  # a property named like a keyword stays what it is
        "price": {"type": "number"},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "place": {"type": "object", "properties": {"city": {"type": "string"}}},
        "anything": {},
    }


def test_a_required_argument_is_given_though_it_may_be_empty(tmp_path):
    path = write(tmp_path / "BFCL_v4_simple.json", case("s_0"))
    truth = [{"shop.find": {"type": ["", "hat"]}}]
    write(tmp_path / "possible_answer" / path.name, {"id": "s_0", "ground_truth": truth})
    (reference,) = bfcl(path)
    assert not isinstance(reference, Rejected)
    assert reference.tool_calls[0].arguments == {"type": "hat"}


@pytest.mark.parametrize(
    ("changes", "truth", "reason"),
    [
        ({}, [{"shop.find": {"type": [7]}}], "an expected call does not fit its function's schema"),
        ({}, [{"shop.find": {"price": [1.0]}}], "an expected call does not fit its function's schema"),
        ({}, [{"shop.buy": {}}], "an expected call names no offered function"),
        ({}, [], "the case has no expected calls"),
        ({}, [{"shop.find": {"type": []}}], "an expected call does not fit its function's schema"),
        ({"question": [[], []]}, [{}], "the case has several turns"),
        ({"function": None}, [{}], "the case has no functions of its own"),
        ({"question": [[]]}, [{"shop.find": {"type": ["hat"]}}], "the case is not of the published form"),
    ],
)
def test_bfcl_cases_that_cannot_be_used_are_rejected(tmp_path, changes, truth, reason):
    path = write(tmp_path / "BFCL_v4_simple.json", case("s_0", **changes))
    write(tmp_path / "possible_answer" / path.name, {"id": "s_0", "ground_truth": truth})
    (rejected,) = bfcl(path)
    assert rejected == Rejected(where=f"{path}:1", reason=reason)


def test_in_irrelevance_cases_the_teacher_calls_nothing(tmp_path):
    (reference,) = bfcl(write(tmp_path / "BFCL_v4_irrelevance.json", case("i_0")))
    assert isinstance(reference, Reference)
    assert reference.tool_calls == ()
    (rejected,) = bfcl(write(tmp_path / "BFCL_v4_live_relevance.json", case("r_0")))
    assert isinstance(rejected, Rejected)


def parquet_file(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


SCHEMAS = [
    {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "ceil", "description": "Round up.", "parameters": None}},
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("within", [False, True])
def test_the_authors_parquet_in_its_variants(tmp_path, packed, within):
    def pack(value):
        return json.dumps(value) if packed else value

    def row(question, answer, names):
        used = {"tool_calls_used": pack(names)}
        extra = {"func_schemas": pack(SCHEMAS), **(used if within else {})}
        top = {} if within else used
        return {
            "data_source": "math",
            "question": question,
            "reward_model": {"style": "rule", "ground_truth": answer},
            "extra_info": extra,
            **top,
        }

    path = parquet_file(tmp_path / "train.parquet", [row("1 + 2?", "3", ["add"]), row("1.5 up?", "2", ["add", "ceil"])])
    first, second = mentor_parquet(path)
    assert not isinstance(second, Rejected)
    assert first == Reference(
        reference_id="train-1",
        prompt=(Message(role="user", content="1 + 2?"),),
        answer="3",
        tools=(
            ToolSpec(name="add", description="Add.", parameters={"type": "object"}),
            ToolSpec(name="ceil", description="Round up."),
        ),
        tool_calls=(ToolCall(call_id="call_0", name="add"),),
        teacher="mentor-release",
        domain="math",
    )
    assert [call.name for call in second.tool_calls] == ["add", "ceil"]


def test_the_source_of_a_rows_tools_is_kept(tmp_path):
    row = {
        "question": "1 + 2?",
        "reward_model": {"ground_truth": "3"},
        "extra_info": {"func_schemas": json.dumps(SCHEMAS), "env": "def add(a, b):\n    return a + b"},
    }
    (reference,) = mentor_parquet(parquet_file(tmp_path / "train.parquet", [row]))
    assert isinstance(reference, Reference)
    assert reference.fields == {"env": "def add(a, b):\n    return a + b"}


def test_parquet_of_another_schema_is_refused(tmp_path):
    path = parquet_file(tmp_path / "x.parquet", [{"question": "?"}])
    (rejected,) = mentor_parquet(path)
    assert rejected == Rejected(where=f"{path}:1", reason="field 'extra_info': expected an object")
    (tmp_path / "y.parquet").write_text("no parquet")
    with pytest.raises(DataFileError, match="y.parquet: cannot be read as parquet"):
        list(mentor_parquet(tmp_path / "y.parquet"))


def test_a_bad_parquet_row_is_rejected_with_its_field(tmp_path):
    row = {
        "question": "?",
        "reward_model": {"ground_truth": None},
        "extra_info": {"func_schemas": "[]"},
        "tool_calls_used": ["add"],
    }
    (rejected,) = mentor_parquet(parquet_file(tmp_path / "x.parquet", [row]))
    assert rejected == Rejected(
        where=f"{tmp_path / 'x.parquet'}:1", reason="field 'answer': expected a text or a number"
    )


def test_old_style_chat_files_are_modernised(tmp_path):
    row = {
        "functions": [{"name": "add", "parameters": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1, "b": 2}'}},
            {"role": "function", "name": "add", "content": "3"},
            {"role": "assistant", "content": "So \\boxed{3}."},
        ],
    }
    (reference,) = chat(write(tmp_path / "old.jsonl", row))
    assert not isinstance(reference, Rejected)
    assert (reference.reference_id, reference.answer) == ("old-1", "3")
    assert [(c.name, c.arguments) for c in reference.tool_calls] == [("add", {"a": 1, "b": 2})]
    assert reference.messages[1] == Message(role="tool", content="3", tool_call_id="call_1", name="add")


def test_every_user_turn_becomes_a_reference_of_its_own(tmp_path):
    def turn(question, tool, call_id):
        call = {"id": call_id, "type": "function", "function": {"name": tool, "arguments": "{}"}}
        return [
            {"role": "user", "content": question},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "ok"},
            {"role": "assistant", "content": "done"},
        ]

    messages = [{"role": "system", "content": "s"}, *turn("one", "add", "a"), *turn("two", "ceil", "b")]
    row = {"id": "talk", "messages": messages, "tools": json.dumps(["add", "ceil"]), "answer": "42"}
    first, second = chat(write(tmp_path / "talk.jsonl", row))
    assert isinstance(first, Reference)
    assert isinstance(second, Reference)
    assert [m.role for m in first.prompt] == ["system", "user"]
    assert [m.role for m in second.prompt] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert [r.reference_id for r in (first, second)] == ["talk/0", "talk/1"]
    assert [r.answer for r in (first, second)] == ["", "42"]
    assert [[c.name for c in r.tool_calls] for r in (first, second)] == [["add"], ["ceil"]]


def test_a_chat_row_that_cannot_be_used_is_rejected_with_its_field(tmp_path):
    bad_call = {"function": {"name": "add", "arguments": "{"}}
    path = write(
        tmp_path / "chats.jsonl",
        {"messages": [{"role": "user", "content": "?"}], "tools": []},
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": [bad_call]}]},
    )
    assert list(chat(path)) == [
        Rejected(where=f"{path}:1", reason="there is no assistant message"),
        Rejected(
            where=f"{path}:2",
            reason="field 'messages[].tool_calls[].function.arguments': expected a JSON object, or a string that holds one",
        ),
    ]


@pytest.fixture(scope="module")
def toolbox():
    box = ToolBox([PythonFunctions("mentor_pl.tools.arithmetic")])
    yield box
    box.close()


SUM = Reference(
    reference_id="s",
    prompt=(Message(role="user", content="1 + 2?"),),
    answer="3",
    tools=(ToolSpec(name="add"),),
    tool_calls=(ToolCall(call_id="c", name="add", arguments={"a": 1, "b": 2}),),
    messages=(
        Message(role="assistant", tool_calls=(ToolCall(call_id="c", name="add", arguments={"a": 1, "b": 2}),)),
        Message(role="tool", content="3", tool_call_id="c", name="add"),
        Message(role="assistant", content="\\boxed{3}"),
    ),
)


def replaced(**changes):
    fields = ("reference_id", "prompt", "answer", "tools", "tool_calls", "messages")
    return Reference(**{**{name: getattr(SUM, name) for name in fields}, **changes})


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        (SUM, None),
        (replaced(answer="4"), "Correct does not hold"),
        (replaced(tools=()), "a call names a tool that is not offered"),
        (
            replaced(messages=SUM.messages[:1]),
            "the solution ends with a tool call; if it hands the answer in, name it in final_tools",
        ),
        (
            replaced(messages=(SUM.messages[0], Message(role="tool", content="4", tool_call_id="c"), SUM.messages[2])),
            "add gives another result when run again",
        ),
        (
            replaced(tool_calls=(ToolCall(call_id="d", name="add", arguments={"a": "x"}),)),
            "add fails when run again",
        ),
        (replaced(messages=()), None),  # nothing to judge: only its calls are known
    ],
)
def test_replaying_finds_what_does_not_hold(toolbox, reference, fault):
    assert find_fault(reference, judges=[Correct()], toolbox=toolbox) == fault


def test_a_solution_may_end_with_a_final_tool(toolbox):
    handing_in = Message(role="assistant", tool_calls=(ToolCall(call_id="c", name="add", arguments={"a": 1, "b": 2}),))
    for answer, fault in (('{"a": 1, "b": 2}', None), ("4", "Correct does not hold")):
        reference = replaced(messages=(handing_in,), tool_calls=handing_in.tool_calls, answer=answer)
        judges = [Correct(judge="exact")]
        assert find_fault(reference, judges=judges, toolbox=toolbox, final_tools=["add"]) == fault


def test_only_what_holds_is_written(tmp_path):
    def pieces(path):
        yield SUM
        yield replaced(reference_id="t", answer="4")
        yield Rejected(where="x:3", reason="no")
        yield Rejected(where="x:4", reason="no")

    report = convert(pieces, tmp_path / "x", tmp_path / "refs.jsonl", judges=[Correct()])
    assert read_references(tmp_path / "refs.jsonl") == [SUM]
    assert (report.written, report.share) == (1, 0.25)
    assert report.reasons == {"no": 2, "Correct does not hold": 1}
    assert report.examples["no"] == "x:3"


def test_a_source_that_yields_nothing_writes_nothing(tmp_path):
    def pieces(path):
        yield Rejected(where="x:1", reason="no")

    with pytest.raises(DataFileError, match=r"no reference could be made of it: no \(1, first at .*:1\)"):
        convert(pieces, tmp_path / "x", tmp_path / "refs.jsonl", judges=[])
    assert list(tmp_path.iterdir()) == []


def test_converters_have_the_names_of_the_command_line():
    assert list(CONVERTERS)[:4] == ["gsm8k", "mentor-parquet", "bfcl", "chat"]
    assert list(CONVERTERS)[4:] == ["question-answer", "xlam", "toolace", "hermes", "glaive", "tau", "verl"]


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("First \\boxed{3}, no: \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed {\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{3} then \\boxed{never closed", ""),
        ("<think>\\boxed{1}</think>\\boxed{2}", "2"),
        ([{"type": "text", "text": "\\boxed{"}, {"type": "text", "text": "5}"}], "5"),
        (None, ""),
    ],
)
def test_answers_of_chats_are_read_from_boxes_as_rewards_read_them(tmp_path, content, answer):
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": content}], "tools": []}
    (reference,) = chat(write(tmp_path / "c.jsonl", row))
    assert isinstance(reference, Reference)
    assert reference.answer == answer


@pytest.mark.parametrize("calls", [[None], ["f"], "f", [{"function": None}], [{"function": {"name": None}}], {"a": 1}])
def test_calls_of_any_form_are_rejected_one_row_at_a_time(tmp_path, calls):
    good = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "\\boxed{4}"}]
    bad = [good[0], {"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "r"}, good[1]]
    rejected, reference = chat(write(tmp_path / "c.jsonl", {"messages": bad}, {"messages": good}))
    assert isinstance(rejected, Rejected)
    assert isinstance(reference, Reference)


@pytest.mark.parametrize("name", ["question", "reward_model", "extra_info"])
def test_a_null_column_costs_only_its_row(tmp_path, name):
    good = {
        "question": "1 + 2?",
        "reward_model": json.dumps({"ground_truth": ["3", "three"]}),
        "extra_info": json.dumps({"func_schemas": SCHEMAS, "tool_calls_used": ["add"]}),
    }
    first, second = mentor_parquet(parquet_file(tmp_path / "x.parquet", [{**good, name: None}, good]))
    assert isinstance(first, Rejected)
    assert isinstance(second, Reference)
    assert (second.answers, [call.name for call in second.tool_calls]) == (("3", "three"), ["add"])
    (broken,) = mentor_parquet(
        parquet_file(tmp_path / "y.parquet", [{**good, "extra_info": '{"func_schemas": [1e999]}'}])
    )
    assert isinstance(broken, Rejected)


def test_a_reference_whose_ids_begin_anew_in_each_turn_holds(toolbox):
    def added(a, b, said):
        call = {"id": "call_0", "function": {"name": "add", "arguments": {"a": a, "b": b}}}
        return [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0", "content": said},
        ]

    from mentor_pl.files import reference_from_row

    def reference(second):
        messages = [{"role": "user", "content": "?"}, *added(1, 2, "3"), *added(3, 4, second)]
        return reference_from_row({"id": "a", "messages": messages, "tools": ["add"]}, "f:1")

    assert find_fault(reference("7"), toolbox=toolbox) is None
    assert find_fault(reference("3"), toolbox=toolbox) == "add gives another result when run again"
