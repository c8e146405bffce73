"""Calls read by a tokenizer's own response template."""

import pytest

from mentor_pl.chat.formats.response_template import ResponseTemplateFormat
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.messages import ToolCall, ToolSpec
from mentor_pl.students.chat_template import read_chat_template
from tests.unit.chat.byte_tokenizers import CHATML, byte_tokenizer

CALLS = {
    "open": "<tool_call>",
    "close_pattern": r"</tool_call>\s*",
    "repeats": True,
    "content": "json",
    "transform": {"type": "function", "function": "{content}"},
}
WORDS = {"close_pattern": r"<\|im_end\|>\s*", "content": "text"}
TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {"tool_calls": CALLS, "content": WORDS},
}
"""For the calls of Hermes."""

ADD = ToolSpec(name="add", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})


def protocol(template):
    tokenizer = byte_tokenizer(read_chat_template("hermes"), CHATML)
    tokenizer.response_template = template
    return ChatProtocol(tokenizer)


def test_it_goes_before_our_formats():
    assert isinstance(protocol(TEMPLATE).format, ResponseTemplateFormat)


def test_one_that_does_not_read_what_the_chat_template_writes_is_left_alone():
    wrong = {**TEMPLATE, "fields": {"tool_calls": {**CALLS, "open": "<call>"}, "content": WORDS}}
    assert protocol(wrong).format.name == "Hermes"


def test_calls_and_words_are_read():
    turn = protocol(TEMPLATE).parse(
        b'So: <tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>\n<tool_call>{"name": "add"}</tool_call>',
        first_index=3,
        tools=(ADD,),
    )
    assert turn.message.content == "So:"
    assert turn.message.tool_calls == (
        ToolCall(call_id="call_3", name="add", arguments={"a": 2}),
        ToolCall(call_id="call_4", name="add"),
    )


def test_an_answer_has_no_calls():
    message = protocol(TEMPLATE).parse(b"It is \\boxed{5}.").message
    assert (message.content, message.tool_calls) == ("It is \\boxed{5}.", ())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"name": "add", "arguments": {"a": 2}', "the call is not valid JSON"),
        (b'{"name": 5}', 'the call has no "name"'),
        (b'{"name": "add", "arguments": [1]}', '"arguments" is not a JSON object'),
    ],
)
def test_a_broken_call_is_a_call_and_says_what_is_wrong(body, error):
    [call] = protocol(TEMPLATE).parse(b"<tool_call>" + body + b"</tool_call>").message.tool_calls
    assert call.parse_error == error


def test_what_only_the_environment_writes_is_forged():
    assert protocol(TEMPLATE).parse(b"<tool_response>\n5\n</tool_response>").forged


def test_without_another_format_a_turn_that_cannot_be_read_is_a_broken_call():
    tokenizer = byte_tokenizer(read_chat_template("hermes"), CHATML)
    tokenizer.response_template = TEMPLATE
    _, [call] = ResponseTemplateFormat(tokenizer).parse("<tool_call>{</tool_call>")
    assert call.parse_error == "the turn cannot be read by the response template"
