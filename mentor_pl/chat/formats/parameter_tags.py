"""One tag for each argument: `<function=f><parameter=a>1</parameter></function>` and its many relatives.

Qwen3-Coder, Qwen3.5, Nemotron 3 and Seed write `<function=`, GLM and Laguna `<arg_key>` and
`<arg_value>`, MiniMax `<invoke name=`, MiniCPM `<param name=`. What stands before and behind names,
keys and values is learned from the template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mentor_pl.chat.formats.base import RawCall, ToolCallFormat, WriteTurn, checked_call, load_json
from mentor_pl.chat.formats.markers import (
    around,
    closer,
    common_prefix,
    common_suffix,
    from_first_bracket,
    loose,
    opener,
)
from mentor_pl.chat.formats.values import argument_schema, read_value
from mentor_pl.messages import ToolCall, ToolSpec

_NAME = r"""[^\s<>"'=\[\](){}|:]{1,64}"""
_ALPHA, _BETA = "probe_alpha", "probe_beta"
_VALUES = {"key_one": "value_one", "key_three": 271828, "key_two": "value_two"}
_CALLS = (
    ToolCall(call_id="call00000", name=_ALPHA, arguments=_VALUES),
    ToolCall(call_id="call00001", name=_BETA, arguments={"key_four": "value_four"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTags:
    """What one template writes around the parts of a call.

    Attributes:
        lead: Pattern of what comes before the first call's opener.
        call_open: Before a name.
        name_close: Between the name and the first argument.
        key_open: Before an argument's name.
        text_open: Between an argument's name and a text.
        number_open: Between an argument's name and a number; some templates name the type there.
        value_close: Behind a value.
        call_close: Behind the last value.
        json_texts: True where texts are written as JSON strings.
    """

    lead: str
    call_open: str
    name_close: str
    key_open: str
    text_open: str
    number_open: str
    value_close: str
    call_close: str
    json_texts: bool


class ParameterTagsFormat(ToolCallFormat):
    """Arguments in tags of their own, as Qwen3-Coder, GLM and MiniMax write them.

    Args:
        tags: As learned.
    """

    name = "parameter tags"

    def __init__(self, tags: ParameterTags) -> None:
        self._tags = tags
        self._opener = re.compile(
            opener(tags.call_open) + rf"\s*(?P<name>{_NAME})(?:\s*{loose(tags.name_close)}|[^<]{{0,40}})"
        )
        self._broken = re.compile(opener(tags.call_open))
        self._close = re.compile(closer(tags.call_close)) if tags.call_close else None
        self._lead = re.compile(rf"{tags.lead}\s*\Z") if tags.lead else None
        first, last = common_prefix(tags.text_open, tags.number_open), common_suffix(tags.text_open, tags.number_open)
        typed = tags.text_open != tags.number_open
        self._text_kind = tags.text_open[len(first) : len(tags.text_open) - len(last)] if typed else None
        middle = f"{loose(first)}(?P<kind>[^<>]{{0,40}}?){loose(last)}" if typed else loose(tags.text_open)
        self._argument = re.compile(
            rf"\s*{loose(tags.key_open)}(?P<key>[^<>\n]{{1,256}}?)\s*{middle}{_newline(tags.text_open[-1:])}"
            rf"(?P<value>.*?){_newline(tags.value_close[:1])}{loose(tags.value_close)}",
            re.DOTALL,
        )

    @classmethod
    def learn(cls, write: WriteTurn) -> ToolCallFormat | None:
        """See `ToolCallFormat.learn`."""
        single = write(_CALLS[:1])
        parts = (_ALPHA, *(str(part) for item in _VALUES.items() for part in item))
        pieces = around(single, parts)
        if pieces is None:
            return None
        if _ALPHA in pieces[1]:  # channel formats address the message to the tool before they name it
            pieces = around(single.replace(_ALPHA, "addressee", 1), parts) or pieces
        before, to_key, text_open, to_number, number_open, to_text, _, ending = pieces
        key_open = from_first_bracket(common_suffix(to_key, to_number, to_text))
        value_close = common_prefix(to_text.removesuffix(key_open), to_number.removesuffix(key_open), ending)
        call_open = from_first_bracket(common_suffix(before, _before_second(write) or before))
        if not (call_open.strip() and key_open.strip() and value_close.strip() and text_open.strip()):
            return None
        json_texts = text_open.endswith('"') and value_close.startswith('"')
        lead = before.strip().removesuffix(call_open.strip()).strip()
        return cls(
            ParameterTags(
                lead=re.escape(lead).replace("addressee", r"\S+"),
                call_open=call_open,
                name_close=to_key.removesuffix(key_open),
                key_open=key_open,
                text_open=text_open[:-1] if json_texts else text_open,
                number_open=number_open,
                value_close=value_close[1:] if json_texts else value_close,
                call_close=ending[len(value_close) :].strip(),
                json_texts=json_texts,
            )
        )

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        found: list[RawCall] = []
        position = 0
        while match := self._broken.search(text, position):
            start = match.start()
            if self._lead and (lead := self._lead.search(text, position, start)):
                start = lead.start()
            named = self._opener.match(text, match.start())
            end = named.end() if named else match.end()
            while argument := self._argument.match(text, end):
                end = argument.end()
            end += len(text[end:]) - len(text[end:].lstrip())
            close = self._close.match(text, end) if self._close else None
            error = None
            if not named:
                error = "the call has no name"
            elif self._close and not close:
                error = f"the call is not written as its tags want it: {self._tags.call_close!r} does not follow its arguments"
                following = self._broken.search(text, end)
                end = following.start() if following else len(text)
            body = text[named.start("name") : end] if named else ""
            position = close.end() if close else end
            found.append(RawCall(start=start, end=position, body=body, error=error))
        return found

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """See `ToolCallFormat.decode`."""
        match = re.match(rf"(?P<name>{_NAME})", body)
        name = match["name"] if match else ""
        arguments: dict[str, Any] = {}
        for argument in self._argument.finditer(body):
            key, text = argument["key"].strip(), argument["value"]
            if key in arguments:
                return name, {}, f"the call gives the argument {key!r} twice"
            if self._tags.json_texts or (self._text_kind is not None and argument["kind"] != self._text_kind):
                try:
                    arguments[key] = load_json(text)
                except (ValueError, RecursionError):
                    return name, {}, f"the argument {key!r} is not valid JSON"
            elif self._text_kind is not None:
                arguments[key] = text
            else:
                arguments[key] = read_value(text, argument_schema(tools, name, key))
        return checked_call(name, arguments)


def _newline(edge: str) -> str:
    """One line break belongs to the tag where the template writes one; further ones belong to the value."""
    return r"\n?" if edge == "\n" else ""


def _before_second(write: WriteTurn) -> str | None:
    pieces = around(write(_CALLS), ("value_two", _BETA, "key_four"))
    if pieces is None:
        return None
    return pieces[1] + (_BETA + pieces[2]).rpartition(_BETA)[0]
