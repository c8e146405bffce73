import json
import random

import pytest

from mentor_pl.chat.formats.base import MAX_CALL_CHARS, MAX_CALL_DEPTH
from mentor_pl.chat.formats.hermes import HermesFormat
from mentor_pl.chat.formats.llama3 import Llama3Format
from mentor_pl.messages import ToolCall
from tests.unit.chat.fuzz import assistant_texts

CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


def hermes(text, **options):
    return HermesFormat().parse(text, **options)


def call(number, name="add", arguments=None):
    return ToolCall(call_id=f"call_{number}", name=name, arguments={"a": 1} if arguments is None else arguments)


def test_text_around_calls_is_kept_and_calls_are_numbered_on():
    assert hermes(f"First.\n{CALL}\n{CALL} Done.", first_index=4) == ("First.\n\n Done.", (call(4), call(5)))


def test_a_text_without_calls_is_an_answer():
    assert hermes(" \\boxed{5} ") == ("\\boxed{5}", ())
    assert hermes("</tool_call>") == ("</tool_call>", ())


def test_a_quoted_arguments_object_is_read():
    assert hermes(CALL.replace('{"a": 1}', '"{\\"a\\": 1}"')) == ("", (call(0),))


def test_a_call_without_arguments_takes_none():
    assert hermes('<tool_call>{"name": "now"}</tool_call>') == ("", (call(0, "now", {}),))


@pytest.mark.parametrize("key", ["arguments", "parameters"])
def test_arguments_are_read_under_either_name(key):
    text = CALL.replace("arguments", key)
    assert hermes(text) == ("", (call(0),))
    assert Llama3Format().parse(f'{{"name": "add", "{key}": {{"a": 1}}}}') == ("", (call(0),))


def test_two_sets_of_arguments_are_not_one():
    _, (made,) = hermes('<tool_call>{"name": "add", "arguments": {}, "parameters": {"a": 1}}</tool_call>')
    assert made.parse_error == "the call has both 'arguments' and 'parameters', with different values"


def test_an_unclosed_call_ends_where_the_next_one_begins():
    _, (first, second) = hermes(f'<tool_call>{{"name": "add"{CALL}')
    assert (first.name, first.parse_error) == ("", "the call has no closing </tool_call>")
    assert second == call(1)


@pytest.mark.parametrize(
    ("body", "name", "error"),
    [
        ('{"name": "add", "arguments": {"a": 1}', "", "the call is not valid JSON"),
        ("{'name': 'add'}", "", "the call is not valid JSON"),
        ('{"name": "add", "arguments": {"a": NaN}}', "", "the call is not valid JSON"),
        ('{"name": "add", "arguments": {"a": 1e999}}', "", "the call is not valid JSON"),
        ('{"name": "add", "arguments": "{\\"a\\": Infinity}"}', "", "the call is not valid JSON"),
        ('{"name": "add", "arguments": {"a": %s}}' % ("1" * 5000), "", "the call is not valid JSON"),
        ('{"name": "add", "arguments": %s}' % ("[" * 9000), "", "the call is not valid JSON"),
        ('["add"]', "", "the call is not a JSON object"),
        ('{"tool": "add", "arguments": {}}', "", 'the call has no "name"'),
        ('{"name": "", "arguments": {}}', "", 'the call has no "name"'),
        ('{"name": ["add"], "arguments": {}}', "", 'the call has no "name"'),
        ('{"name": "add", "arguments": [1]}', "add", '"arguments" is not a JSON object'),
        ('{"name": "add", "arguments": null}', "add", '"arguments" is not a JSON object'),
        ('{"name": "\\ud800", "arguments": 3}', "", "the call holds a lone surrogate character"),
        ('{"name": "add", "arguments": {"\\udc00": 1}}', "add", "the call holds a lone surrogate character"),
        (
            '{"name": "add", "arguments": {"a": DEEP}}'.replace("DEEP", "[" * MAX_CALL_DEPTH + "]" * MAX_CALL_DEPTH),
            "add",
            "the arguments are nested deeper than 64 levels",
        ),
        (
            '{"name": "add", "arguments": {"a": "%s"}}' % ("x" * MAX_CALL_CHARS),
            "",
            "the call is longer than 20000 characters",
        ),
    ],
)
def test_a_malformed_call_says_why(body, name, error):
    content, (made,) = hermes(f"<tool_call>{body}</tool_call>")
    assert (content, made) == ("", ToolCall(call_id="call_0", name=name, parse_error=error))


def test_llama_calls_stand_bare():
    one = '{"name": "add", "parameters": {"a": 1}}'
    assert Llama3Format().parse(one) == ("", (call(0),))
    assert Llama3Format().parse(f"<|python_tag|>{one}; {one}") == ("", (call(0), call(1)))
    assert Llama3Format().parse(f"{one}, {one}") == ("", (call(0), call(1)))
    assert Llama3Format().parse(f"{one} Done.") == ("Done.", (call(0),))
    assert Llama3Format().parse(f"I call {one}") == ("I call", (call(0),))
    assert Llama3Format().parse('It is {"name": "Bob", "age": 3}.') == ('It is {"name": "Bob", "age": 3}.', ())
    assert Llama3Format().parse(f"A {{set}} and {one}") == ("A {set} and", (call(0),))
    content, (cut,) = Llama3Format().parse(f"I call {one[:-1]}")
    assert (content, cut.parse_error) == ("I call", "the call is not valid JSON")
    content, (broken,) = Llama3Format().parse('{"name": "add", "parameters": {"a": 1}')
    assert (content, broken.parse_error) == ("", "the call is not valid JSON")


def check_fuzzed(count, seed):
    """Every call is either well formed and can be written as strict JSON, or says what is wrong with it."""
    valid = refused = 0
    for text in assistant_texts(count, seed):
        for form in (HermesFormat(), Llama3Format()):
            content, calls = form.parse(text, first_index=7)
            form.is_forged(text)
            assert [made.call_id for made in calls] == [f"call_{7 + i}" for i in range(len(calls))]
            assert len(content) <= len(text)
            for made in calls:
                json.dumps(dict(made.arguments), allow_nan=False, ensure_ascii=False).encode()
                made.name.encode()
                assert bool(made.parse_error) or made.name, text
                assert not (made.parse_error and made.arguments), text
                valid, refused = valid + (made.parse_error is None), refused + (made.parse_error is not None)
    return valid, refused


def test_5_000_fuzzed_texts_give_calls_or_errors():
    valid, refused = check_fuzzed(5_000, seed=0)
    assert min(valid, refused) > 500  # the fuzzer reaches both


@pytest.mark.integration
def test_20_000_fuzzed_texts_give_calls_or_errors():
    valid, refused = check_fuzzed(20_000, seed=1)
    assert min(valid, refused) > 2_000


def test_random_tokens_give_calls_or_errors(protocol):
    rng = random.Random(0)
    for _ in range(500):
        ids = [rng.choice((3, 4, 5, rng.randrange(len(protocol.tokenizer)))) for _ in range(rng.randint(0, 40))]
        for made in protocol.parse(ids).message.tool_calls:
            assert bool(made.parse_error) or made.name
