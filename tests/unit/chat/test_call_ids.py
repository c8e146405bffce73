"""Ids that a student writes into its calls: read, kept, and repeated with the results. In the byte tokenizer a byte is a token."""

import pytest

from mentor_pl.chat.call_ids import CallIds
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.files.conversation import messages_from_rows
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.replies import to_be_sent
from mentor_pl.training.samples import sample_from_reference
from tests.unit.chat.byte_tokenizers import byte_tokenizer

_TURNS = """\
{%- if tools -%}[T]{{ tools | tojson }}{%- endif -%}
{%- set seen = namespace(calls=0, results=0, names=[]) -%}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}[U]{{ message.content }}
    {%- elif message.role == 'tool' -%}RESULT
    {%- else -%}
        {{- '[A]' + message.content -}}
        {%- for call in message.tool_calls or [] -%}CALL{%- endfor -%}
        {{- '</s>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}[A]{%- endif -%}
"""


def template(call, result):
    """Return a template; its first turn of calls is [A] ... </s>, each result [R] ... [/R]."""
    return _TURNS.replace("CALL", call).replace("RESULT", "{{- '[R]' -}}" + result + "{{- '[/R]' -}}")


# Mistral Small: the conversation's ids, of nine characters.
GIVEN = template(
    "{%- if call.id | length != 9 -%}{{ raise_exception('nine characters') }}{%- endif -%}"
    "{{- '[C]' + call.function.name + '[ID]' + call.id + '[ARGS]' + (call.function.arguments | tojson) -}}",
    "{{- message.tool_call_id + ' ' + message.content -}}",
)
# Kimi K2: names and a count, over the conversation.
COUNTED = template(
    "{%- set id = 'functions.' + call.function.name + ':' + (seen.calls | string) -%}"
    "{%- set seen.calls = seen.calls + 1 -%}{%- set seen.names = seen.names + [id] -%}"
    "{{- '[C]' + id + '[ARGS]' + (call.function.arguments | tojson) -}}",
    "{{- seen.names[seen.results] + ' ' + message.content -}}{%- set seen.results = seen.results + 1 -%}",
)
# Command R7B: JSON with a bare number, in text that holds other numbers.
JSON_COUNTED = template(
    """{%- if loop.first -%}{{- '[C][' -}}{%- endif -%}
    {{- '{"tool_call_id": "' + (seen.calls | string) + '", "tool_name": "' + call.function.name + '", "parameters": ' -}}
    {{- (call.function.arguments | tojson) + '}' + ('][/C]' if loop.last else ', ') -}}
    {%- set seen.calls = seen.calls + 1 -%}""",
    """{{- '{"tool_call_id": "' + (seen.results | string) + '", "results": {"0": "' + message.content + '"}}' -}}
    {%- set seen.results = seen.results + 1 -%}""",
)
# Kimi K2 in another program: the calls count anew with every turn, the results name what the conversation gives.
OF_TURN = template(
    "{{- '[C]functions.' + call.function.name + ':' + (loop.index0 | string) + '[ARGS]' -}}"
    "{{- (call.function.arguments | tojson) -}}",
    "{{- message.tool_call_id + ' ' + message.content -}}",
)
KINDS = {CallIds.GIVEN: GIVEN, CallIds.COUNTED: COUNTED, CallIds.OF_TURN: OF_TURN}
SPECIALS = ("<pad>", "</s>", *("[T]", "[U]", "[A]", "[R]", "[/R]", "[C]", "[/C]", "[ID]", "[ARGS]"))
ADD = ToolSpec(name="add", description="Adds.")


def protocol_of(source):
    return ChatProtocol(byte_tokenizer(source, SPECIALS))


def text_of(protocol, ids):
    return protocol.tokenizer.decode(list(ids))


def sampled(protocol, text):
    return protocol.parse(protocol.tokenizer.encode(text, add_special_tokens=False)).message


def results_of(protocol, text, *, first_index=0):
    calls = sampled(protocol, text).tool_calls
    results = [ToolResult(call_id=call.call_id, content=f"r{i}") for i, call in enumerate(calls)]
    return text_of(protocol, protocol.tool_result_ids(calls, results, first_index=first_index))


@pytest.mark.parametrize("kind", KINDS)
def test_who_chooses_the_ids_is_found_out(kind):
    assert protocol_of(KINDS[kind]).detected.call_ids is kind


def test_json_calls_have_ids_too():
    assert protocol_of(JSON_COUNTED).detected.call_ids is CallIds.COUNTED


@pytest.mark.parametrize(
    ("source", "turn", "results"),
    [
        # Two ids of its own, and a result under each.
        (
            GIVEN,
            '[C]add[ID]aB3xY9kQz[ARGS]{"a": 1}[C]add[ID]Z[ARGS]{"a": 2}</s>',
            "[R]aB3xY9kQz r0[/R][R]Z r1[/R][A]",
        ),
        # Twice the same id: results go by position, and stand under what was written.
        (GIVEN, '[C]add[ID]same[ARGS]{"a": 1}[C]add[ID]same[ARGS]{"a": 2}</s>', "[R]same r0[/R][R]same r1[/R][A]"),
        # No id, and one that cannot be repeated: the template's own stand in for them.
        (
            GIVEN,
            '[C]add[ARGS]{"a": 1}[C]add[ID]not one[ARGS]{"a": 2}</s>',
            "[R]call00000 r0[/R][R]call00001 r1[/R][A]",
        ),
        (COUNTED, '[C]functions.add:7[ARGS]{"a": 1}</s>', "[R]functions.add:7 r0[/R][A]"),
        (COUNTED, '[C]functions.add[ARGS]{"a": 1}</s>', "[R]functions.add:0 r0[/R][A]"),
        (OF_TURN, '[C]functions.add:3[ARGS]{"a": 1}</s>', "[R]functions.add:3 r0[/R][A]"),
        (
            JSON_COUNTED,
            '[C][{"tool_call_id": "7", "tool_name": "add", "parameters": {"a": 1}}][/C]</s>',
            '[R]{"tool_call_id": "7", "results": {"0": "r0"}}[/R][A]',
        ),
    ],
)
def test_results_stand_under_the_ids_that_were_sampled(source, turn, results):
    assert results_of(protocol_of(source), turn) == results


def test_calls_are_told_apart_by_position_whatever_ids_they_have():
    message = sampled(protocol_of(GIVEN), '[C]add[ID]x[ARGS]{"a": 1}[C]add[ID]x[ARGS]{"a": 2}</s>')
    assert [call.call_id for call in message.tool_calls] == ["call_0", "call_1"]
    assert [call.written_id for call in message.tool_calls] == ["x", "x"]
    assert [call.arguments for call in message.tool_calls] == [{"a": 1}, {"a": 2}]


def test_an_id_that_spells_a_control_token_is_not_repeated():
    text = results_of(protocol_of(GIVEN), '[C]add[ID]x[/R]y[ARGS]{"a": 1}</s>')
    assert text == "[R]call00000 r0[/R][A]"


def test_calls_without_an_id_are_counted_over_the_conversation():
    assert results_of(protocol_of(GIVEN), '[C]add[ARGS]{"a": 1}</s>', first_index=3) == "[R]call00003 r0[/R][A]"
    text = results_of(protocol_of(COUNTED), '[C]functions.add[ARGS]{"a": 1}</s>', first_index=3)
    assert text == "[R]functions.add:3 r0[/R][A]"


def turns(*ids):
    """Return a solution of one call a turn, with these ids of its own."""
    messages = []
    for number, written_id in enumerate(ids):
        call = ToolCall(call_id=f"t{number}", name="add", arguments={"a": number}, written_id=written_id)
        messages += [
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content=f"r{number}", tool_call_id=f"t{number}", name="add"),
        ]
    return (*messages, Message(role="assistant", content="1"))


@pytest.mark.parametrize(
    ("source", "ids", "shown"),
    [
        (GIVEN, (None, None), ("call00000", "call00001")),
        (GIVEN, ("aB3xY9kQz", "bbbbbbbbb"), ("aB3xY9kQz", "bbbbbbbbb")),
        (GIVEN, ("functions.add:0", "Z"), ("call00000", "call00001")),  # the template refuses them
        (COUNTED, (None, None), ("functions.add:0", "functions.add:1")),
        (COUNTED, ("aB3xY9kQz", "bbbbbbbbb"), ("functions.add:0", "functions.add:1")),
        (OF_TURN, (None, None), ("functions.add:0", "functions.add:0")),
    ],
)
def test_supervised_samples_show_a_result_under_the_id_of_its_call(source, ids, shown):
    protocol = protocol_of(source)
    reference = Reference(
        reference_id="r", prompt=(Message(role="user", content="?"),), messages=turns(*ids), tools=(ADD,), answer="1"
    )
    text = text_of(protocol, sample_from_reference(reference, protocol, [ADD]).token_ids.tolist())
    for number, call_id in enumerate(shown):
        between = "[ID]" if source is GIVEN else ""
        call = f'[C]{"add" if source is GIVEN else ""}{between}{call_id}[ARGS]{{"a": {number}}}</s>'
        assert f"{call}[R]{call_id} r{number}[/R][A]" in text


def test_a_prompt_with_earlier_calls_has_a_different_id_for_each():
    protocol = protocol_of(GIVEN)
    earlier = (Message(role="user", content="?"), *turns("aB3xY9kQz", "aB3xY9kQz"), Message(role="user", content="!"))
    text = text_of(protocol, protocol.prompt_ids(earlier, [ADD]))
    assert '[ID]aB3xY9kQz[ARGS]{"a": 0}</s>[R]aB3xY9kQz r0[/R]' in text
    assert '[ID]call00001[ARGS]{"a": 1}</s>[R]call00001 r1[/R]' in text


def test_results_in_another_order_keep_their_ids_in_a_prompt():
    calls = tuple(ToolCall(call_id=f"c{i}", name="add", arguments={"a": i}) for i in range(2))
    results = [Message(role="tool", content=f"r{i}", tool_call_id=f"c{i}", name="add") for i in (1, 0)]
    asked = [Message(role="user", content="?"), Message(role="assistant", tool_calls=calls), *results]
    text = text_of(protocol_of(GIVEN), protocol_of(GIVEN).prompt_ids(asked, [ADD]))
    assert text.endswith("[R]call00001 r1[/R][R]call00000 r0[/R][A]")


def test_a_tool_named_as_a_control_token_is_answered_like_any_other():
    # Qwen3 has a token <think>, and many task sets a tool `think`.
    protocol = ChatProtocol(byte_tokenizer(GIVEN, (*SPECIALS, "<think>")))
    call = ToolCall(call_id="call_0", name="think", arguments={})
    ids = protocol.tool_result_ids([call], [ToolResult(call_id="call_0", content="r0")])
    assert text_of(protocol, ids) == "[R]call00000 r0[/R][A]"


def test_a_written_id_is_kept_in_files_and_not_sent_to_endpoints():
    call = ToolCall(call_id="call_0", name="add", arguments={}, written_id="aB3xY9kQz")
    row = Message(role="assistant", tool_calls=(call,)).to_openai()
    assert row["tool_calls"][0]["written_id"] == "aB3xY9kQz" and row["tool_calls"][0]["id"] == "call_0"
    (read,) = messages_from_rows([row], "f:1", strict=True)
    assert read.tool_calls[0].written_id == "aB3xY9kQz"
    (sent,) = to_be_sent([read])
    assert "written_id" not in sent["tool_calls"][0]
