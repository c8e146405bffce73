"""Golden tests of real chat templates: TRL's (where it is installed), and those of a folder named by MENTOR_PL_CHAT_TEMPLATES.

What follows a turn must be, letter for letter, what the template itself writes there; what is written must read back.
"""

import ast
import contextlib
import importlib.util
import os
import re
from pathlib import Path

import pytest

from mentor_pl.chat.call_ids import CallIds
from mentor_pl.chat.detection import detect
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.chat.tokens import PieceEncoder
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[2] / "scripts" / "chat_templates.py"
_spec = importlib.util.spec_from_file_location("chat_templates", SCRIPT)
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)

TRL = script.trl_templates()
MORE = (
    sorted(Path(os.environ["MENTOR_PL_CHAT_TEMPLATES"]).glob("*.jinja"))
    if "MENTOR_PL_CHAT_TEMPLATES" in os.environ
    else []
)
FILES = [*TRL, *MORE]
# They show tools, but write assistants' calls nowhere.
NO_CALLS = {"lfm2", "lfm2_training"}
# Of llama.cpp's. docs/chat_templates.md names them too.
REFUSED = {"fireworks-ai-llama-3-firefunction-v2": "it wants a variable `functions` beside the tools"}

TOOL = ToolSpec(
    name="look_up",
    description="Looks a thing up.",
    parameters={
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "What."},
            "count": {"type": "integer", "description": "How many."},
            "exact": {"type": "boolean", "description": "Whether."},
            "where": {"type": "object", "description": "Where.", "properties": {"pages": {"type": "array"}}},
        },
        "required": ["text"],
    },
)
ASK = Message(role="user", content="What is 17 * 23?")


def call(index, **arguments):
    return ToolCall(call_id=f"call_{index}", name="look_up", arguments=arguments)


CALLS = {
    "none": (),
    "one": (call(0, text="Rom é 東京", count=3),),
    "empty": (call(0),),
    "nested": (call(0, text="12", exact=False, where={"pages": [1, 2.5, {"a": "b"}], "c": {}}),),
    "three": (call(0, text="a"), call(1, count=-1), call(2, exact=True)),
}


@pytest.fixture(scope="module", params=FILES, ids=lambda file: file.stem)
def protocol(request):
    tokenizer = script.tokenizer_for(request.param.read_text(encoding="utf-8"), request.param.stem)
    if request.param.stem in REFUSED:
        with pytest.raises(ChatFormatError):
            ChatProtocol(tokenizer)
        pytest.skip(f"refused: {REFUSED[request.param.stem]}")
    return ChatProtocol(tokenizer)


def text_of(protocol, ids):
    return protocol.tokenizer.decode(list(ids), skip_special_tokens=False)


def rendered(protocol, messages, **options):
    return protocol.detected.template.render(messages, [TOOL], add_generation_prompt=True, **options).text


@pytest.mark.skipif(not TRL, reason="no TRL is installed")
def test_every_template_of_trl_that_writes_calls_is_read_in_its_own_format():
    natives, texts = set(), set()
    for file in TRL:
        source = file.read_text(encoding="utf-8")
        tokenizer = script.tokenizer_for(source)
        try:
            detect(tokenizer, PieceEncoder(tokenizer), source)
            natives.add(file.stem)
        except ChatFormatError:
            ChatProtocol(tokenizer)
            texts.add(file.stem)
    # TRL 1.16: 44 and 28. Templates that name the tools in their source are meant to render them.
    assert len(natives) >= 44
    assert not [name for name in texts - NO_CALLS if "tools" in (TRL[0].parent / f"{name}.jinja").read_text()]


@pytest.mark.parametrize("kind", CALLS)
def test_what_is_written_reads_back(protocol, kind):
    calls = CALLS[kind]
    message = Message(role="assistant", content="" if calls else "It is \\boxed{391}.", tool_calls=calls)
    try:
        ids = protocol.assistant_ids(message)
    except ChatFormatError:
        assert len(calls) > 1  # some templates write one call a turn
        return
    read = protocol.parse(ids, tools=[TOOL])
    assert ids[-1] in protocol.stop_token_ids and not set(ids[:-1]) & set(protocol.stop_token_ids)
    assert read.message.content == message.content and not read.forged
    if kind == "three" and len(read.message.tool_calls) == 1:
        return  # channel formats write the first or the last one
    assert read.message.tool_calls == calls or str(kind) in str(protocol.detected.unread)


def test_reasoning_reads_back_and_holds_no_call(protocol):
    said = Message(role="assistant", content="It is \\boxed{391}.", reasoning="Is it \\boxed{3}?")
    read = protocol.parse(protocol.assistant_ids(said)).message
    if protocol.detected.shape.thought.closed:  # the template has switched thinking off
        assert (read.content, read.reasoning) == (said.content, "")
        return
    assert (read.content, read.reasoning) == (said.content, said.reasoning)
    try:
        thought = protocol.assistant_ids(Message(role="assistant", content="", reasoning="probe_end"))
    except ChatFormatError:  # some templates refuse a turn of thought alone
        thought = protocol.assistant_ids(Message(role="assistant", content="x", reasoning="probe_end"))
    cut = text_of(protocol, thought).split("probe_end")[0]
    unfinished = protocol.parse(protocol.tokenizer.encode(f"{cut}\\boxed{{3}}", add_special_tokens=False))
    assert not unfinished.message.tool_calls and "boxed" not in unfinished.message.content


def test_what_follows_calls_is_what_the_template_writes(protocol):
    turn = protocol.assistant_ids(Message(role="assistant", tool_calls=CALLS["one"]))
    made = protocol.calls_as_written(CALLS["one"], turn)
    ids = protocol.tool_result_ids(made, [ToolResult(call_id="call_0", content="result_391")])
    conversation = [
        ASK,
        Message(role="assistant", tool_calls=made),
        Message(role="tool", content="result_391", name="look_up"),
    ]
    assert "result_391" in text_of(protocol, ids)
    assert rendered(protocol, conversation).endswith(text_of(protocol, ids))


def test_results_stand_under_the_ids_that_the_student_wrote(protocol):
    if protocol.detected.call_ids is CallIds.NONE:
        return
    turn = text_of(protocol, protocol.assistant_ids(Message(role="assistant", tool_calls=CALLS["three"])))
    read = protocol.parse(protocol.tokenizer.encode(turn, add_special_tokens=False), tools=[TOOL]).message
    ids = [call.written_id for call in read.tool_calls]
    assert len(set(ids)) == 3 and None not in ids
    own = [f"{call_id[:-1]}{number}" for number, call_id in zip((7, 4, 7), ids, strict=True)]  # not unique
    for old, new in zip(ids, own, strict=True):
        head, _, tail = turn.partition(old)
        turn = f"{head}{new}{tail}" if turn.count(old) == 1 else turn.replace(f'"{old}"', f'"{new}"', 1)
    sampled = protocol.parse(protocol.tokenizer.encode(turn, add_special_tokens=False), tools=[TOOL]).message
    assert [call.written_id for call in sampled.tool_calls] == own and sampled.tool_calls == CALLS["three"]
    results = [ToolResult(call_id=f"call_{i}", content=f"result_{i}") for i in range(3)]
    shown = text_of(protocol, protocol.tool_result_ids(sampled.tool_calls, results))
    places = [shown.index(f"result_{i}") for i in range(3)]
    assert places == sorted(places)
    assert [number for number in re.findall(r"result_(?=\d)|7|4", shown) if number in "74"] == ["7", "4", "7"]


def test_what_follows_an_answer_is_what_the_template_writes(protocol):
    ids = protocol.user_message_ids("And 4?")
    conversation = [ASK, Message(role="assistant", content="391."), Message(role="user", content="And 4?")]
    assert "And 4?" in text_of(protocol, ids)
    assert rendered(protocol, conversation).endswith(text_of(protocol, ids))


def test_foreign_text_never_becomes_a_control_token(protocol):
    forged = "x" + "".join(protocol.added_tokens)

    def control(ids):
        return [token for token in ids if token > 255]

    def prompt(text, description):
        tool = ToolSpec(name="look_up", description=description, parameters=TOOL.parameters)
        return control(protocol.prompt_ids([Message(role="user", content=text)], [tool]))

    assert prompt("xy", "xy") == prompt(forged, forged)
    made = CALLS["one"]
    plain, hostile = (
        control(protocol.tool_result_ids(made, [ToolResult(call_id="call_0", content=text)])) for text in ("xy", forged)
    )
    assert plain == hostile


RESPONSE_TEMPLATES = {
    "qwen3": "qwen3_template",
    "qwen3_instruct_2507": "qwen3_template",
    "llama3_1": "llama3_template",
    "gptoss": "gptoss_template",
    "gemma4": "gemma4_template",
}
"""TRL's chat templates, and the response templates that it gives them."""


def response_templates():
    """Read the literals of TRL's source: to import it would need its dependencies."""
    source = (TRL[0].parents[1] / "chat_template_utils.py").read_text(encoding="utf-8")
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


@pytest.mark.skipif(not TRL, reason="no TRL is installed")
@pytest.mark.parametrize("name", RESPONSE_TEMPLATES)
def test_a_response_template_reads_as_our_own_format_does(name):
    [file] = [file for file in TRL if file.stem == name]
    tokenizer = script.tokenizer_for(file.read_text(encoding="utf-8"), name)
    ours = ChatProtocol(tokenizer)
    tokenizer.response_template = response_templates()[RESPONSE_TEMPLATES[name]]
    theirs = ChatProtocol(tokenizer)
    for calls in CALLS.values():
        ids = ours.assistant_ids(Message(role="assistant", content="" if calls else "It is 391.", tool_calls=calls[:1]))
        assert theirs.parse(ids, tools=(TOOL,)) == ours.parse(ids, tools=(TOOL,))
    # gpt-oss's looks for the token that ends a call, which is the turn's end and gone by then.
    assert (theirs.format.name == "the tokenizer's response template") == (name != "gptoss")
