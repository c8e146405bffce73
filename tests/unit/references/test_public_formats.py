import json

import pytest

from mentor_pl.files import reference_from_row, reference_to_row
from mentor_pl.reference import Reference
from mentor_pl.references.converters import CONVERTERS, Rejected
from mentor_pl.references.converters.foreign_tools import flat_parameters, json_schema, json_values
from mentor_pl.references.converters.written_calls import CannotReadError, call_items, literal, python_calls

WEATHER = {
    "name": "weather",
    "description": "Say the weather.",
    "parameters": {"type": "dict", "properties": {"city": {"type": "str"}}, "required": ["city"]},
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def convert(name, path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(CONVERTERS[name](path))


def calls(reference):
    return [(call.name, dict(call.arguments)) for call in reference.tool_calls]


def assert_holds(reference):
    """What was converted is a whole reference with the tool's schema, and reads back."""
    assert isinstance(reference, Reference), reference
    assert reference.tools[0].parameters["properties"]["city"]["type"] == "string"
    assert reference_from_row(json.loads(json.dumps(reference_to_row(reference))), "f:1") == reference


def test_xlam(tmp_path):
    tool = {"name": "weather", "description": "Say.", "parameters": {"city": {"type": "str", "description": "Name."}}}
    tool["parameters"]["days"] = {"type": "List[int], optional", "description": "Which.", "default": ""}
    answers = [{"name": "weather", "arguments": {"city": "Oslo"}}, {"name": "weather", "arguments": {"city": "Rome"}}]
    row = {"id": 7, "query": "Oslo, Rome?", "answers": json.dumps(answers), "tools": json.dumps([tool])}
    good, bad, mixed = convert("xlam", tmp_path / "x.jsonl", row, {**row, "answers": "[{"}, {**row, "tools": None})
    assert_holds(good)
    assert (good.reference_id, good.answer) == ("7", "")
    assert calls(good) == [("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})]
    assert [(m.role, m.tool_calls) for m in good.messages] == [("assistant", good.tool_calls)]  # can be imitated
    assert good.tools[0].parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Name."},
            "days": {"type": "array", "items": {"type": "integer"}, "description": "Which."},
        },
        "required": ["city"],
    }
    assert bad == Rejected(where=f"{tmp_path / 'x.jsonl'}:2", reason="a call is neither JSON nor Python")
    assert mixed == Rejected(where=f"{tmp_path / 'x.jsonl'}:3", reason="field 'tools': expected a list of tools")


def test_apigen_mt(tmp_path):
    turns = [
        {"from": "human", "value": "Oslo?"},
        {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Oslo"}})},
        {"from": "observation", "value": "cold"},
        {"from": "gpt", "value": "It is cold."},
    ]
    row = {"conversations": turns, "tools": json.dumps([WEATHER]), "system": "Be kind."}
    (reference,) = convert("xlam", tmp_path / "mt.jsonl", row)
    assert_holds(reference)
    assert [m.role for m in (*reference.prompt, *reference.messages)] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert calls(reference) == [("weather", {"city": "Oslo"})]


def test_toolace(tmp_path):
    system = f"You are an expert. Here is a list of functions in JSON format that you can invoke:\n{json.dumps([WEATHER])}. \nGo."
    turns = [
        {"from": "user", "value": "Oslo and Rome?"},
        {"from": "assistant", "value": '[weather(city="Oslo (north)"), weather(city="Rome")]'},
        {"from": "tool", "value": json.dumps([{"name": "weather", "results": 1}, {"name": "weather", "results": 2}])},
        {"from": "assistant", "value": "Cold, warm."},
    ]
    row = {"system": system, "conversations": turns}
    lost = [turns[0], turns[1], {"from": "tool", "value": "[1]"}, turns[3]]
    good, bad = convert("toolace", tmp_path / "t.jsonl", row, {**row, "conversations": lost})
    assert_holds(good)
    assert [m.role for m in good.prompt] == ["user"]
    assert calls(good) == [("weather", {"city": "Oslo (north)"}), ("weather", {"city": "Rome"})]
    assert [json.loads(m.content)["results"] for m in good.messages if m.role == "tool"] == [1, 2]
    assert bad == Rejected(where=f"{tmp_path / 't.jsonl'}:2", reason="the tools' answers do not fit the calls")


def test_hermes(tmp_path):
    said = "<tool_call>\n{'arguments': {'city': 'Oslo'}, 'name': 'weather'}\n</tool_call>"
    turns = [
        {
            "from": "system",
            "value": f"You call functions. <tools> {json.dumps([{'type': 'function', 'function': WEATHER}])} </tools>",
        },
        {"from": "human", "value": "Oslo?"},
        {"from": "gpt", "value": f"Let me see.\n{said}\n{said.replace('Oslo', 'Rome')}"},
        {"from": "tool", "value": "<tool_response>\ncold\n</tool_response>\n<tool_response>\nwarm\n</tool_response>"},
        {"from": "gpt", "value": "Cold."},
    ]
    inside = {"id": "h1", "conversations": turns, "category": "Weather"}
    beside = {**inside, "id": "h2", "tools": json.dumps([WEATHER])}
    first, second, third = convert(
        "hermes", tmp_path / "h.jsonl", inside, beside, {"id": "h3", "conversations": turns[1:2] + turns[4:]}
    )
    for reference in (first, second):
        assert_holds(reference)
        assert [m.role for m in reference.prompt] == ["user"]
        assert calls(reference) == [("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})]
        assert [m.content for m in reference.messages] == ["Let me see.", "cold", "warm", "Cold."]
        assert reference.fields == {"category": "Weather"}
    assert isinstance(third, Rejected)


def test_glaive(tmp_path):
    chat = (
        'USER: Oslo?\n\n\nASSISTANT: <functioncall> {"name": "weather", "arguments": \'{"city": "Oslo"}\'} <|endoftext|>'
        '\n\n\nFUNCTION RESPONSE: {"sky": "grey"}\n\n\nASSISTANT: Grey. <|endoftext|>\n\n\nUSER: Thanks\n\n\nASSISTANT: Welcome!'
    )
    system = f"SYSTEM: You may use the following functions -\n{json.dumps(WEATHER, indent=2)}\n{json.dumps({**WEATHER, 'name': 'tide'})}"
    first, second = convert("glaive", tmp_path / "g.jsonl", {"system": system, "chat": chat})
    assert_holds(first)
    assert [tool.name for tool in first.tools] == ["weather", "tide"]
    assert calls(first) == [("weather", {"city": "Oslo"})]
    assert [m.content for m in first.messages] == ["", '{"sky": "grey"}', "Grey."]
    assert len(second.prompt) == 5
    (none,) = convert(
        "glaive", tmp_path / "n.jsonl", {"system": "SYSTEM: You are kind.", "chat": "USER: Hi\n\n\nASSISTANT: Hi!"}
    )
    assert none == Rejected(where=f"{tmp_path / 'n.jsonl'}:1", reason="no tools are offered")


def test_tau_keeps_only_runs_with_the_full_reward(tmp_path):
    item = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    traj = [
        {"role": "system", "content": "Policy."},
        {"role": "user", "content": "Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [item], "function_call": None},
        {"role": "tool", "tool_call_id": "a", "name": "weather", "content": "cold"},
        {"role": "assistant", "content": "Cold."},
        {"role": "user", "content": "###STOP###"},
    ]
    run = {"task_id": 3, "trial": 1, "reward": 1.0, "traj": traj, "info": {"task": {"actions": [{"name": "weather"}]}}}
    good, bad = convert("tau", tmp_path / "tau.json", {**run, "tools": [WEATHER]}, {**run, "reward": 0.0})
    assert_holds(good)
    assert good.reference_id == "3-1"
    assert good.fields == {"task": {"actions": [{"name": "weather"}]}}
    assert [m.role for m in good.messages] == ["assistant", "tool", "assistant"]
    assert bad == Rejected(where=f"{tmp_path / 'tau.json'}:2", reason="the run did not get the full reward")


def test_verl_with_tools_of_each_row(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    row = {
        "data_source": "qa",
        "prompt": [{"role": "system", "content": "Search."}, {"role": "user", "content": "Capital?"}],
        "reward_model": {"style": "rule", "ground_truth": json.dumps({"target": ["Paris", "paris"]})},
        "extra_info": {"index": "5", "tools": json.dumps([WEATHER]), "tools_kwargs": None},
    }
    other = {**row, "extra_info": {"index": "6", "tools": None, "tools_kwargs": {"search": {"k": 1}}}}
    none = {**row, "extra_info": {"index": "7", "tools": None, "tools_kwargs": None}}
    row["reward_model"] = other["reward_model"] = {"style": "rule", "ground_truth": "Paris"}
    parquet.write_table(pa.Table.from_pylist([row, other, none]), tmp_path / "v.parquet")
    first, second, third = CONVERTERS["verl"](tmp_path / "v.parquet")
    assert_holds(first)
    assert (first.reference_id, first.answer, first.domain) == ("5", "Paris", "qa")
    assert first.fields["extra_info"]["index"] == "5"
    assert [tool.name for tool in second.tools] == ["search"]
    assert third == Rejected(where=f"{tmp_path / 'v.parquet'}:3", reason="field 'tools': expected tools of the row")


@pytest.mark.parametrize("name", [name for name in CONVERTERS if name not in ("bfcl", "gsm8k")])
@pytest.mark.parametrize(
    "row", [{}, {"conversations": None}, {"messages": [None]}, {"chat": 5}, {"tools": 3, "query": []}]
)
def test_rows_of_another_form_are_rejected_and_never_raise(tmp_path, name, row):
    assert all(isinstance(piece, Rejected) for piece in convert(name, tmp_path / "x.jsonl", row, row))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[Get It Now(a=1, b="x, (y)]")]', [("Get It Now", {"a": 1, "b": "x, (y)]"})]),
        ("[a.b(c={'k': [True, None]}, d=-1.5), e()]", [("a.b", {"c": {"k": [True, None]}, "d": -1.5}), ("e", {})]),
        ("[f(x=true, y=null)]", [("f", {"x": True, "y": None})]),
        ("[1, 2]", []),
        ("I need (more).", []),
    ],
)
def test_calls_as_python_writes_them(text, expected):
    assert [(c["function"]["name"], c["function"]["arguments"]) for c in python_calls(text)] == expected


@pytest.mark.parametrize("text", ["[f(1)]", "[f(a=]", "[f(a=g())]", "[f(a=1) g(b=2]", "[f(a=__import__('os'))]"])
def test_calls_that_are_no_literals_are_refused(text):
    with pytest.raises(CannotReadError):
        python_calls(text)


def test_literals_are_read_and_never_run():
    assert literal("{'a': (1, 2), 'b': None}") == {"a": [1, 2], "b": None}
    for text in ("__import__('os')", "1e999", "{", "[" * 300):
        with pytest.raises(CannotReadError):
            literal(text)
    with pytest.raises(CannotReadError):
        call_items([5])


def test_schemas_get_the_standards_names():
    assert json_schema(WEATHER["parameters"]) == SCHEMA
    assert json_schema({"type": ["str", "none"], "required": True}) == {"type": ["string", "null"]}
    assert json_schema({"type": "any", "properties": {"type": {"type": "float"}}}) == {
        "properties": {"type": {"type": "number"}}
    }
    assert flat_parameters({"a": {"type": "Optional[int]"}, "b": {"type": "bool", "default": False}}) == {
        "type": "object",
        "properties": {"a": {}, "b": {"type": "boolean", "default": False}},
        "required": ["a"],
    }
    assert json_values('x {"a": 1} y [2] {broken') == [{"a": 1}, [2]]


def test_tau2_files_hold_all_runs_and_the_users_own_calls_are_not_the_agents(tmp_path):
    call = {"id": "c1", "name": "weather", "arguments": {"city": "Oslo"}, "requestor": "assistant"}
    own = {"id": "u1", "name": "reboot", "arguments": {}, "requestor": "user"}
    messages = [
        {"role": "user", "content": "Is it cold in Oslo?", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "id": "c1", "content": "-3", "requestor": "assistant"},
        {"role": "assistant", "content": "Yes. Reboot your phone.", "tool_calls": None},
        {"role": "user", "content": None, "tool_calls": [own]},
        {"role": "tool", "id": "u1", "content": "rebooted", "requestor": "user"},
        {"role": "user", "content": "Done.", "tool_calls": None},
        {"role": "assistant", "content": "Good.", "tool_calls": None},
    ]
    run = {"id": "s", "task_id": "7", "trial": 0, "messages": messages}
    file = {
        "info": {"agent_info": {"llm": "m"}, "environment_info": {"policy": "Be kind."}},
        "tasks": [{"id": "7", "purpose": "weather"}],
        "simulations": [{**run, "reward_info": {"reward": reward}} for reward in (1.0, 0.0)] + [run, 5],
    }
    first, second, bad, unknown, broken = convert("tau", tmp_path / "tau2.json", file)
    assert [m.content for m in first.prompt] == ["Be kind.", "Is it cold in Oslo?"]
    assert first.tool_calls[0].arguments == {"city": "Oslo"} and first.messages[1].content == "-3"
    assert [m.content for m in second.prompt][-2:] == ["Yes. Reboot your phone.", "Done."]
    assert first.fields["task"]["purpose"] == "weather" and first.teacher == "m"
    assert bad.reason == "the run did not get the full reward" and bad.where.endswith("simulation 1")
    assert unknown.reason == broken.reason == "the run states no reward"


def test_lines_broken_alike_are_counted_together(tmp_path):
    good = {"query": "q", "tools": [{"name": "a"}], "answers": [{"name": "a", "arguments": {}}]}
    path = tmp_path / "xlam.jsonl"
    path.write_text("7\n" + json.dumps(good) + "\n8\n")
    first, _, last = CONVERTERS["xlam"](path)
    assert first.reason == last.reason == "expected one JSON object" and last.where == f"{path}:3"


def test_a_parameter_may_be_called_properties(tmp_path):
    tool = {"name": "a", "parameters": {"properties": {"type": "str", "description": "which"}}}
    row = {"query": "q", "tools": json.dumps([tool]), "answers": [{"name": "a", "arguments": {"properties": "x"}}]}
    (reference,) = convert("xlam", tmp_path / "xlam.jsonl", row)
    properties = {"properties": {"type": "string", "description": "which"}}
    assert reference.tools[0].parameters == {"type": "object", "properties": properties, "required": ["properties"]}


def test_tools_that_python_printed_into_a_system_prompt_are_read(tmp_path):
    system = f"Signatures stand within <tools> </tools> tags.\n<tools>\n{[WEATHER]}\n</tools>"
    call = "<tool_call>\n{'name': 'weather', 'arguments': {'city': 'Oslo'}}\n</tool_call>"
    turns = [{"from": who, "value": text} for who, text in (("system", system), ("human", "Oslo?"), ("gpt", call))]
    (reference,) = convert("hermes", tmp_path / "hermes.jsonl", {"conversations": turns})
    assert [tool.name for tool in reference.tools] == ["weather"] and len(reference.prompt) == 1


def test_where_no_call_is_expected_xlam_has_a_sentence_to_imitate(tmp_path):
    row = {"id": 1, "query": "Sing!", "tools": json.dumps([WEATHER]), "answers": "[]"}
    (reference,) = convert("xlam", tmp_path / "irrelevance.jsonl", row)
    assert [(m.role, m.content, m.tool_calls) for m in reference.messages] == [
        ("assistant", "None of the given functions can do this.", ())
    ]


def test_a_greeting_before_the_user_speaks_is_no_turn_that_was_refused(tmp_path):
    said = [("assistant", "Hello!"), ("user", "Oslo?"), ("assistant", "Cold.")]
    row = {"messages": [{"role": role, "content": text} for role, text in said], "tools": [WEATHER]}
    (reference,) = convert("chat", tmp_path / "chat.jsonl", row)
    assert [m.content for m in reference.prompt] == ["Hello!", "Oslo?"]
