import pytest

from mentor_pl.chat.formats.base import RawCall, ToolCallFormat
from mentor_pl.chat.formats.gemma import GemmaFormat
from mentor_pl.chat.formats.harmony import HarmonyFormat
from mentor_pl.chat.formats.hermes import HermesFormat
from mentor_pl.chat.formats.llama3 import Llama3Format
from mentor_pl.chat.formats.marked_json import MarkedJsonFormat
from mentor_pl.chat.formats.named_json import NamedJsonFormat
from mentor_pl.chat.formats.parameter_tags import ParameterTagsFormat
from mentor_pl.chat.formats.python_calls import PythonCallsFormat
from mentor_pl.errors import PluginError
from mentor_pl.messages import ToolCall, ToolSpec
from mentor_pl.testing import check_tool_call_format

ADD = ToolCall(call_id="", name="add", arguments={"a": 2, "b": ["x", None]})
NOW = ToolCall(call_id="", name="now")
TOOL = ToolSpec(
    name="add", parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "array"}}}
)
JSON = '{"a": 2, "b": ["x", null]}'


def coder(calls):
    """Write calls as Qwen3-Coder's template does."""
    blocks = [
        "<tool_call>\n<function="
        + call.name
        + ">\n"
        + "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in call.arguments.items())
        + "</function>\n</tool_call>"
        for call in calls
    ]
    return "\n".join(blocks)


CODER = '<tool_call>\n<function=add>\n<parameter=a>\n2\n</parameter>\n<parameter=b>\n["x", null]\n</parameter>\n</function>\n</tool_call>'


@pytest.mark.parametrize(
    ("form", "examples"),
    [
        (HermesFormat(), {f'<tool_call>{{"name": "add", "arguments": {JSON}}}</tool_call>': [ADD]}),
        (Llama3Format(), {f'{{"name": "add", "parameters": {JSON}}}; {{"name": "now"}}': [ADD, NOW]}),
        (
            MarkedJsonFormat("[TOOL_CALLS]", ""),
            {f'[TOOL_CALLS][{{"name": "add", "arguments": {JSON}}}, {{"name": "now", "arguments": {{}}}}]': [ADD, NOW]},
        ),
        (MarkedJsonFormat("<|tools|>", "<|/tools|>", keyed=True), {f'<|tools|>[{{"add": {JSON}}}]<|/tools|>': [ADD]}),
        (
            NamedJsonFormat("", "[TOOL_CALLS]", r"\[ARGS\]", ""),
            {f"[TOOL_CALLS]add[ARGS]{JSON}[TOOL_CALLS]now[ARGS]{{}}": [ADD, NOW]},
        ),
        (ParameterTagsFormat.learn(coder), {CODER: [ADD], "<function=now>\n</function>": [NOW], CODER[12:]: [ADD]}),
        (PythonCallsFormat(), {"[add(a=2, b=['x', None]), now()]": [ADD, NOW]}),
        (
            GemmaFormat(),
            {
                '<|tool_call>call:add{a:2,b:[<|"|>x<|"|>,null]}<tool_call|><|tool_call>call:now{}<tool_call|>': [
                    ADD,
                    NOW,
                ]
            },
        ),
        (
            HarmonyFormat(),
            {
                f" to=functions.add<|channel|>commentary json<|message|>{JSON}": [ADD],
                f"<|channel|>commentary to=functions.add <|constrain|>json<|message|>{JSON}<|call|>": [ADD],
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ToolCallFormat) else "",
)
def test_our_formats_keep_the_contract(form, examples):
    check_tool_call_format(form, examples, [TOOL])


class Raises(HermesFormat):
    def find(self, text):
        return [RawCall(start=0, end=1, body=text[5000:][0])]


class Loses(HermesFormat):
    def decode(self, body, tools):
        name, _, error = super().decode(body, tools)
        return name, {}, error


@pytest.mark.parametrize(("form", "found"), [(Loses(), "reads as"), (Raises(), "raises IndexError")])
def test_formats_that_do_not_are_found(form, found):
    with pytest.raises(PluginError, match=found):
        check_tool_call_format(form, {f'<tool_call>{{"name": "add", "arguments": {JSON}}}</tool_call>': [ADD]})
