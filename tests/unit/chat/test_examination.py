import pytest

from mentor_pl.chat import examination
from mentor_pl.chat.examination import Finding, check_chat, examine_chat, example
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.errors import ChatFormatError
from mentor_pl.students.chat_template import read_chat_template
from tests.unit.chat.byte_tokenizers import CHATML, LLAMA, LLAMA_TEMPLATE, byte_tokenizer


@pytest.fixture(scope="module")
def hermes():
    return ChatProtocol(byte_tokenizer(read_chat_template("hermes"), CHATML))


def test_a_student_that_can_do_everything(hermes):
    findings = {finding.topic: finding for finding in examine_chat(hermes)}
    assert {finding.level for finding in findings.values()} == {"ok"}
    assert findings["stop tokens"].text == "<|im_end|> (template, tokenizer)"
    assert "Hermes" in findings["template"].text


def test_tools_as_text_are_worth_a_note():
    bare = "{% for m in messages %}<|im_start|>{{ m.role + ': ' + m.content }}<|im_end|>{% endfor %}"
    findings = {finding.topic: finding for finding in examine_chat(ChatProtocol(byte_tokenizer(bare, CHATML)))}
    assert (findings["template"].level, findings["template"].remedy[:20]) == ("note", "expect to teach the ")


def test_one_call_a_turn_is_worth_a_note_and_no_arguments_are_blamed():
    silent = LLAMA_TEMPLATE.replace(
        "{{- raise_exception('This model only supports single tool-calls at once!') -}}", ""
    )
    for template in (LLAMA_TEMPLATE, silent):
        findings = {f.topic: f for f in examine_chat(ChatProtocol(byte_tokenizer(template, LLAMA)))}
        assert findings["calls in a turn"].text.startswith("its template writes one a turn")
        assert (findings["round trip"].level, findings["calls in a turn"].level) == ("ok", "note")


def test_the_example_marks_what_is_trained(hermes):
    trained = [stretch.text for stretch in example(hermes) if stretch.trained]
    assert trained == [
        '<tool_call>\n{"name": "probe_tool", "arguments": {"value": 12, "text": "a"}}\n</tool_call><|im_end|>',
        "It is \\boxed{391}.<|im_end|>",
    ]


def test_a_fault_stops_a_run(hermes, monkeypatch):
    fault = Finding(topic="injection", level="fault", text="text becomes control", remedy="take another")
    monkeypatch.setattr(examination, "examine_chat", lambda _: [fault])
    with pytest.raises(ChatFormatError, match="injection: text becomes control; take another"):
        check_chat(hermes)
