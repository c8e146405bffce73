"""Templates that do what few do; each stands for real ones that were refused or read wrongly."""

import pytest

from mentor_pl.chat.detection import detect
from mentor_pl.chat.in_place import without_changes_in_place
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.chat.tokens import PieceEncoder
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec
from mentor_pl.students.chat_template import set_chat_template
from tests.unit.chat.byte_tokenizers import CHATML, byte_tokenizer

THINK = (*CHATML, "<think>", "</think>")
CALLS = (
    ToolCall(call_id="call_0", name="add", arguments={"a": 2, "b": "x"}),
    ToolCall(call_id="call_1", name="add", arguments={"a": 3}),
)
CHATML_TURN = "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"


def chatml(calls, *, prompt="<|im_start|>assistant\n", turn=CHATML_TURN):
    """Return a ChatML template whose turns with calls are written by the given Jinja."""
    return (
        "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
        "{% for message in messages %}{% if message.tool_calls %}<|im_start|>assistant\n"
        f"{calls}<|im_end|>\n{{% else %}}{turn}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{prompt}{{% endif %}}"
    )


def text(protocol, ids):
    return protocol.tokenizer.decode(ids)


def written(protocol, calls=CALLS):
    return text(protocol, protocol.assistant_ids(Message(role="assistant", tool_calls=calls)))


def read(protocol, calls=CALLS):
    return protocol.parse(protocol.assistant_ids(Message(role="assistant", tool_calls=calls))).message


def test_tags_may_stand_between_the_calls_only():
    template = chatml(
        "<calls>{% for call in message.tool_calls %}<call>"
        '{"name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}</call>{% endfor %}</calls>'
    )
    protocol = ChatProtocol(byte_tokenizer(template, CHATML))
    assert protocol.format.name == "JSON behind a marker"
    assert (read(protocol).content, read(protocol).tool_calls) == ("", CALLS)


def test_python_calls_may_have_a_line_each():
    template = chatml(
        "<calls>\n```python\n{% for call in message.tool_calls %}{{ call.function.name }}("
        "{% for key, value in call.function.arguments.items() %}{{ key }}={{ value | tojson }}"
        "{% if not loop.last %}, {% endif %}{% endfor %})\n{% endfor %}```\n</calls>"
    )
    protocol = ChatProtocol(byte_tokenizer(template, CHATML))
    assert protocol.format.name == "Python calls"
    assert (read(protocol).content, read(protocol).tool_calls) == ("", CALLS)
    assert (
        protocol.parse(b"<calls>\n```python\nadd(a=2, b='x')\nadd(a=\n```\n</calls>").message.tool_calls[-1].parse_error
    )


def test_a_template_that_runs_arguments_together_is_not_read_by():
    template = chatml(
        "[{% for call in message.tool_calls %}{{ call.function.name }}("
        "{% for key, value in call.function.arguments.items() %}{{ key }}={{ value | tojson }}{% endfor %}){% endfor %}]"
    )
    protocol = ChatProtocol(byte_tokenizer(template, CHATML))
    assert "<tool_call>" in written(protocol) and read(protocol).tool_calls == CALLS


KIMI = chatml(
    "{% for call in message.tool_calls %}<|call|>{{ call.id }}<|arguments|>{{ call.function.arguments | tojson }}{% endfor %}",
    turn="<|im_start|>{{ message.role }}\n{% if message.role == 'tool' %}{{ message.tool_call_id }}: {% endif %}"
    "{{ message.content }}<|im_end|>\n",
)


def test_a_name_may_stand_in_the_id_alone():
    protocol = ChatProtocol(byte_tokenizer(KIMI, (*CHATML, "<|call|>", "<|arguments|>")))
    assert written(protocol) == (
        '<|call|>functions.add:0<|arguments|>{"a": 2, "b": "x"}<|call|>functions.add:1<|arguments|>{"a": 3}<|im_end|>'
    )
    made = read(protocol).tool_calls
    assert made == CALLS and [call.written_id for call in made] == ["functions.add:0", "functions.add:1"]
    results = [ToolResult(call_id=f"call_{i}", content=f"is {i}") for i in range(2)]
    assert text(protocol, protocol.tool_result_ids(made, results)) == (
        "\n<|im_start|>tool\nfunctions.add:0: is 0<|im_end|>\n<|im_start|>tool\nfunctions.add:1: is 1<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_never_writes_the_next_header_gets_it():
    for template in (CHATML_TURN, chatml("{{ message.tool_calls | tojson }}", prompt="")):
        source = template if "for message" in template else f"{{% for message in messages %}}{template}{{% endfor %}}"
        protocol = ChatProtocol(byte_tokenizer(source, CHATML))
        assert text(protocol, protocol.prompt_ids([Message(role="user", content="2+3?")], ())) == (
            "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\n"
        )
        ids = protocol.assistant_ids(Message(role="assistant", content="5"))
        assert text(protocol, ids) == "5<|im_end|>" and not protocol.parse(ids).forged


OPENS_BEHIND_RESULTS = chatml(
    '{% for call in message.tool_calls %}<tool_call>{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}</tool_call>{% endfor %}',
    prompt="<|im_start|>assistant\n{% if messages[-1].role == 'tool' %}<think>\n{% endif %}",
    turn="<|im_start|>{{ message.role }}\n{% if message.reasoning %}<think>\n{{ message.reasoning }}\n</think>\n\n{% endif %}"
    "{{ message.content }}<|im_end|>\n",
)


def test_a_thought_may_be_open_behind_results_only():
    protocol = ChatProtocol(byte_tokenizer(OPENS_BEHIND_RESULTS, THINK))
    assert text(protocol, protocol.tool_result_ids(CALLS[:1], [ToolResult(call_id="call_0", content="5")])).endswith(
        "<think>\n"
    )
    said, thought = Message(role="assistant", content="5"), Message(role="assistant", content="5", reasoning="2 and 3")
    assert text(protocol, protocol.assistant_ids(said)) == "5<|im_end|>"
    assert text(protocol, protocol.assistant_ids(thought)) == "<think>\n2 and 3\n</think>\n\n5<|im_end|>"
    assert text(protocol, protocol.assistant_ids(said, after_results=True)) == "\n</think>\n\n5<|im_end|>"
    assert text(protocol, protocol.assistant_ids(thought, after_results=True)) == "2 and 3\n</think>\n\n5<|im_end|>"
    assert protocol.parse(protocol.assistant_ids(thought, after_results=True), after_results=True).message == thought
    # What the student says without closing the thought is no answer there.
    assert protocol.parse(b"is it 5?", after_results=True).message.content == ""
    assert protocol.parse(b"is it 5?").message.content == "is it 5?"


def test_an_empty_thought_of_a_past_turn_takes_ours_also_where_the_header_opens_it():
    template = chatml(
        "<tool_call>{{ message.tool_calls[0].function | tojson }}</tool_call>",
        prompt="<|im_start|>assistant\n<think>\n",
        turn="<|im_start|>{{ message.role }}\n{% if message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{{ message.content }}<|im_end|>\n",
    )
    protocol = ChatProtocol(byte_tokenizer(template, THINK))
    thought = Message(role="assistant", content="5", reasoning="2 and 3")
    assert text(protocol, protocol.assistant_ids(thought)) == "2 and 3\n</think>\n\n5<|im_end|>"
    assert protocol.parse(protocol.assistant_ids(thought)).message == thought


def test_of_the_tokens_behind_an_answer_the_tokenizers_own_end_is_taken():
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"
        "<|im_start|>{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    protocol = ChatProtocol(byte_tokenizer(template, CHATML))
    assert text(protocol, protocol.assistant_ids(Message(role="assistant", content="5"))) == "5<|im_end|>"


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}<|im_start|>{{ message['from'] + '\n' + message['value'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>gpt\n{% endif %}",
        "{% if messages[0].role == 'system' %}{% set said = messages[0].content %}{% set messages = messages[1:] %}{% endif %}"
        "{{ said + '' }}{% for message in messages %}"
        + CHATML_TURN
        + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ],
    ids=["from and value", "a system turn is wanted"],
)
def test_turns_in_other_words_take_tools_as_text(template):
    protocol = ChatProtocol(byte_tokenizer(template, CHATML))
    assert text(protocol, protocol.prompt_ids([Message(role="user", content="2+3?")], ())).count("2+3?") == 1
    assert "Adds." in text(
        protocol, protocol.prompt_ids([Message(role="user", content="2?")], [ToolSpec(name="add", description="Adds.")])
    )
    assert written(protocol).startswith("<tool_call>") and read(protocol).tool_calls == CALLS


def test_what_a_schema_leaves_out_is_said_where_a_template_reads_it():
    template = (
        "{% for tool in tools or [] %}{{ tool.function.name + tool.function.parameters.additionalProperties | tojson }}{% endfor %}"
        + chatml("<tool_call>{{ message.tool_calls[0].function | tojson }}</tool_call>").partition("{% endfor %}")[2]
    )
    tokenizer = byte_tokenizer(template, CHATML)
    detected = detect(tokenizer, PieceEncoder(tokenizer))
    nested = {"type": "object", "properties": {"where": {"type": "object", "properties": {}}}}
    shown = detected.template.render(
        [Message(role="user", content="2?")], [ToolSpec(name="add", parameters=nested)], add_generation_prompt=True
    )
    assert shown.text.startswith("add{}")


def test_variables_that_a_template_refuses_are_named_and_not_the_template():
    template = (
        "{% if thinks is defined and not thinks %}{{ raise_exception('Thinking is a must.') }}{% endif %}"
        + chatml("<tool_call>{{ message.tool_calls[0].function | tojson }}</tool_call>")
    )
    tokenizer = byte_tokenizer(template, CHATML)
    with pytest.raises(
        ChatFormatError, match=r"cannot be used with chat_template_kwargs \{'thinks': False\}, and can without"
    ):
        set_chat_template(tokenizer, None, "a student", {"thinks": False})


APPENDED = (
    "{% set ids = namespace(held=[]) %}{% set count = namespace(n=0) %}{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.tool_calls %}{% for call in message.tool_calls %}"
    "{% set id = 'f.' + call.function.name + ':' + (count.n | string) %}{% set count.n = count.n + 1 %}"
    "{%- set _ = ids.held.append(id) -%}<call>{{ id }}<args>{{ call.function.arguments | tojson }}</call>{% endfor %}"
    "{% elif message.role == 'tool' %}{% set id = ids.held.pop(0) %}of {{ id }}: {{ message.content }}"
    "{% else %}{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_that_appends_in_place_which_the_sandbox_refuses_is_written_without():
    protocol = ChatProtocol(byte_tokenizer(APPENDED, (*CHATML, "<call>", "<args>", "</call>")))
    assert protocol.format.name == "name and JSON"
    assert written(protocol).startswith('<call>f.add:0<args>{"a": 2, "b": "x"}</call><call>f.add:1<args>')
    results = [ToolResult(call_id=f"call_{i}", content=f"r{i}") for i in range(2)]
    behind = text(protocol, protocol.tool_result_ids(CALLS, results))
    assert "of f.add:0: r0" in behind and "of f.add:1: r1" in behind


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (
            "{% set xs = [] %}{% for m in messages %}{% set _ = xs.append(m.content) %}{% endfor %}{{ xs | join(', ') }} xs",
            "a, b xs",
        ),
        ("{%- set first = messages.pop(0) %}{{ first.content }} {{ messages | length }}", "a 1"),
        ("{% set last = messages.pop() %}{{ last.content }} {{ messages[-1].content }}", "b a"),
        ("{% for m in messages %}{% set _ = m.update({'x': 'y'}) %}{{ m.x }}{% endfor %}", "yy"),
        (
            "{% set xs = ['1'] %}{% for m in messages %}{% do xs.extend([m.content]) %}{% endfor %}{{ xs | join }}",
            "1ab",
        ),
    ],
)
def test_what_is_changed_in_place_is_assigned_anew(source, shown):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    tokenizer = byte_tokenizer(without_changes_in_place(source), CHATML)
    assert tokenizer.apply_chat_template(messages, tokenize=False) == shown
