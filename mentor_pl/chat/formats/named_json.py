"""The tool's name, a marker, and the arguments as a JSON object.

`[TOOL_CALLS]f[ARGS]{...}` (Mistral, Devstral),
`<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}` (Kimi K2),
`function<｜tool▁sep｜>f` and a block of JSON (DeepSeek), `<function=f>{...}</function>`
(Functionary), `<|tool_call:name|>f` (Solar).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mentor_pl.chat.formats.base import RawCall, ToolCallFormat, WriteTurn, checked_call, repeatable_id
from mentor_pl.chat.formats.marked_json import find_json
from mentor_pl.chat.formats.markers import (
    around,
    closer,
    common_prefix,
    common_suffix,
    from_first_bracket,
    loose,
    opener,
)
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import ToolCall, ToolSpec

_NAME = r"""[^\s<>"'=\[\](){}|:]{1,64}"""
_ID_BEFORE = re.compile(r"[\w.:-]{0,64}\Z", re.ASCII)
_CALLS = (
    ToolCall(call_id="call00000", name="probe_alpha", arguments={"key_one": "value_one"}),
    ToolCall(call_id="call00001", name="probe_beta", arguments={"key_two": "value_two"}),
)


class NamedJsonFormat(ToolCallFormat):
    """A name in markers, then the arguments as JSON, as Mistral, DeepSeek and Kimi K2 write them.

    Args:
        lead: Pattern of what comes before the first call's opener, an id as group `id`.
        call_open: Before a name.
        middle: Pattern of what comes between name and arguments, an id, or the end of one that
            holds the name, as group `id`.
        close: Behind the arguments.
    """

    name = "name and JSON"

    def __init__(self, lead: str, call_open: str, middle: str, close: str) -> None:
        self._lead = re.compile(rf"{lead}\s*\Z") if lead else None
        self._opener = re.compile(opener(call_open))
        self._head = re.compile(rf"\s*(?P<name>{_NAME}){middle}\s*(?=\{{)")
        self._close = re.compile(rf"\s*{closer(close)}") if close.strip() else None

    @classmethod
    def learn(cls, write: WriteTurn) -> ToolCallFormat | None:
        """See `ToolCallFormat.learn`."""
        text = write(_CALLS[:1])
        found = find_json(text, "key_one")
        if found is None or "probe_alpha" in text[found[0] : found[1]] or "probe_alpha" not in text[: found[0]]:
            return None
        before, _, middle = text[: found[0]].rpartition("probe_alpha")
        opening, middles = before, [middle]
        try:
            both = around(write(_CALLS), ("value_one", "probe_beta", "key_two"))
        except ChatFormatError:  # one call a turn
            both = None
        if both is not None:
            opening = common_suffix(before, both[1])
            middles.append(both[2][: both[2].rindex("{")] if "{" in both[2] else both[2])
        call_open = from_first_bracket(opening)
        if not call_open:
            return None
        first, last = common_prefix(*middles), common_suffix(*middles)
        varies = first != middle or "call0000" in middle
        if varies:
            first, last = first.split("call0000")[0], from_first_bracket(last.rpartition("call0000")[2])
        # An id is the model's to write: without it, the call is one all the same.
        pattern = rf"(?:{loose(first)}(?P<id>[^{{\n]{{0,64}}?))?{loose(last)}" if varies else loose(middle)
        lead = before.removesuffix(call_open).strip()
        close = text[found[1] :].strip()
        lead = opener(lead).replace("call00000", r"(?P<id>[^<\s]{1,64}?)", 1) if lead else ""
        return cls(lead, call_open, rf"\s*{pattern}", close)

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        found: list[RawCall] = []
        decoder = json.JSONDecoder()
        position = 0
        while match := self._opener.search(text, position):
            lead = self._lead.search(text, position, match.start()) if self._lead else None
            start = lead.start() if lead else match.start()
            head = self._head.match(text, match.end())
            body, error = "", "the call is not a name and a JSON object"
            end = match.end()
            if head:
                try:
                    _, end = decoder.raw_decode(text, head.end())
                    body, error = f"{head['name']} {text[head.end() : end]}", None
                except (ValueError, RecursionError):
                    error = "the arguments are not valid JSON"
            if error is not None:
                following = self._opener.search(text, match.end())
                end = following.start() if following else len(text)
            elif self._close and (close := self._close.match(text, end)):
                end = close.end()
            position = end
            found.append(
                RawCall(start=start, end=end, body=body, error=error, written_id=_written_id(text, lead, head))
            )
        return found

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """See `ToolCallFormat.decode`."""
        name, _, arguments = body.partition(" ")
        return checked_call(name.removeprefix("functions."), arguments)


def _written_id(text: str, *matches: re.Match[str] | None) -> str | None:
    """Return the id that one of the matches found: what varies of it, and what runs into that on the left."""
    for match in matches:
        if match is not None and "id" in match.re.groupindex and match["id"] is not None:
            before = _ID_BEFORE.search(text, max(0, match.start("id") - 64), match.start("id"))
            return repeatable_id((before[0] if before else "") + match["id"].strip())
    return None
