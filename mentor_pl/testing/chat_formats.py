"""The contract of tool-call formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from mentor_pl.chat.formats.base import MAX_CALL_CHARS, ToolCallFormat
from mentor_pl.messages import ToolCall, ToolSpec
from mentor_pl.testing.contract import require

_AWKWARD = (
    "",
    " ",
    "It is 5.",
    "{",
    "[" * 3000,
    '{"a":' * 900 + "1" + "}" * 900,
    "x" * (2 * MAX_CALL_CHARS),
    '{"name": "f", "arguments": {"a": NaN}}',
    '{"name": "f", "arguments": {"a": "\\ud800"}}',
    "<think>",
    "\ue0000\ue001",
)


def check_tool_call_format(
    form: ToolCallFormat, examples: Mapping[str, Sequence[ToolCall]], tools: Sequence[ToolSpec] = ()
) -> None:
    """Check that a format keeps its plugin point's contract.

    Every example must read back, and every beginning of it, with or without words before it, must
    give calls or errors, never an exception. Calls are numbered on from `first_index`, hold what
    JSON can hold, and have no arguments where they have an error.

    Args:
        form: The format.
        examples: Texts of assistant turns, each with the calls in it.
        tools: What is offered, for formats that look types up.

    Raises:
        PluginError: It does not.
    """
    by_name = {tool.name: tool for tool in tools}
    require(bool(examples), form, "no examples were given", "at least one text with its calls is needed")
    for text, calls in examples.items():
        _check(form, text, by_name)
        _, read = form.parse(text, tools=by_name)
        expected = tuple(
            ToolCall(call_id=f"call_{i}", name=call.name, arguments=call.arguments, parse_error=call.parse_error)
            for i, call in enumerate(calls)
        )
        require(read == expected, form, f"{text!r} reads as {read}", f"it must read as {expected}")
    cuts = [text[:end] for text in examples for end in range(len(text))]
    for text in (*_AWKWARD, *cuts, *(f"I call {text}" for text in examples), *(text + text for text in examples)):
        _check(form, text, by_name)


def _check(form: ToolCallFormat, text: str, tools: Mapping[str, ToolSpec]) -> None:
    try:
        content, calls = form.parse(text, first_index=7, tools=tools)
        form.is_forged(text)
        form.split_reasoning(text)
    except Exception as failure:  # whatever a stranger's code raises is what the contract forbids
        require(
            False, form, f"{text[:80]!r} raises {type(failure).__name__}: {failure}", "what a student writes is data"
        )
        return
    numbers = [call.call_id for call in calls]
    require(
        numbers == [f"call_{7 + i}" for i in range(len(calls))],
        form,
        f"{text[:80]!r} gives calls with the ids {numbers}",
        "ids count on from first_index",
    )
    require(len(content) <= len(text), form, f"{text[:80]!r} grows to {content[:80]!r}", "words are only taken away")
    for call in calls:
        require(
            bool(call.name) or bool(call.parse_error),
            form,
            f"{text[:80]!r} gives a call without a name",
            "such a call says what is wrong in parse_error",
        )
        require(
            not (call.parse_error and call.arguments),
            form,
            f"{text[:80]!r} gives a broken call with arguments",
            "a call with a parse_error has none",
        )
        try:
            json.dumps([call.name, dict(call.arguments)], allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as failure:
            require(False, form, f"{text[:80]!r} gives what JSON cannot hold: {failure}", "arguments are JSON")
