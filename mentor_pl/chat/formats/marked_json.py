"""JSON behind a marker, one object, several, or a list of them.

`<TOOLCALL>[{"name": ...}]</TOOLCALL>` (Nemotron), `[TOOL_CALLS][{...}]` (Mistral),
`<|START_ACTION|>[{"tool_name": ...}]<|END_ACTION|>` (Command R7B), `<tool_calls>` with an object a
line (MiniMax M1), `<|tools_prefix|>[{"f": {...}}]` (Apertus), `functools[...]` (Phi).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mentor_pl.chat.formats.base import (
    RawCall,
    ToolCallFormat,
    WriteTurn,
    checked_call,
    load_json,
    read_call_value,
    written_id_of,
)
from mentor_pl.chat.formats.markers import closer, loose
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import ToolCall, ToolSpec

_CALLS = (
    ToolCall(call_id="call00000", name="probe_alpha", arguments={"key_one": "value_one"}),
    ToolCall(call_id="call00001", name="probe_beta", arguments={"key_two": "value_two"}),
)
_BARE_LIST = r'(?=\[\s*\{\s*"(?:name|tool_name|type|function)"\s*:)'


class MarkedJsonFormat(ToolCallFormat):
    """JSON calls behind a marker that the template writes, as Nemotron Nano, Mistral Nemo and Command R7B have them.

    Args:
        marker: What comes before the JSON; "" for a list that nothing announces.
        close: What comes behind it.
        between: What comes between two calls, beside blanks, commas and semicolons.
        keyed: True where a call is `{"<name>": {<arguments>}}`.
    """

    name = "JSON behind a marker"

    def __init__(self, marker: str, close: str, *, between: str = "", keyed: bool = False) -> None:
        self._marker = re.compile(rf"\s*{loose(marker)}" if marker else _BARE_LIST)
        self._close = re.compile(rf"\s*{closer(close)}") if close else None
        self._between = re.compile(rf"(?:\s*{loose(between)})?[\s,;]*(?=[\[{{])" if between else r"[\s,;]*(?=[\[{])")
        self._keyed = keyed

    @classmethod
    def learn(cls, write: WriteTurn) -> ToolCallFormat | None:
        """See `ToolCallFormat.learn`."""
        text = write(_CALLS[:1])
        name = _CALLS[0].name
        found = find_json(text, name)
        if found is None:
            return None
        start, end, payload = found
        first = payload[0] if isinstance(payload, list) and payload else payload
        marker, close = text[:start].strip(), text[end:].strip()
        if not marker and not isinstance(payload, list):
            return None
        keyed = isinstance(first, dict) and list(first) == [name]
        return cls(marker, close, between=_between(write), keyed=keyed)

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        found: list[RawCall] = []
        decoder = json.JSONDecoder()
        position = 0
        while match := self._marker.search(text, position):
            position, start, bodies, ids, broken = match.end(), match.start(), list[str](), list[str | None](), False
            while between := self._between.match(text, position):
                if self._close and (close := self._close.match(text, position)) and close.end() > between.end():
                    break  # `[/TOOL_CALLS]` begins as a list does
                try:
                    payload, end = decoder.raw_decode(text, between.end())
                except (ValueError, RecursionError):
                    broken = True
                    break
                items = payload if isinstance(payload, list) else [payload]
                # A list was decoded whole: its items are written again, an object is kept as it stands.
                bodies += (
                    [json.dumps(item) for item in items] if isinstance(payload, list) else [text[between.end() : end]]
                )
                ids += map(written_id_of, items)
                position = end
            if self._close and (close := self._close.match(text, position)):
                position = close.end()
            if broken or not bodies:
                following = self._marker.search(text, position + 1)
                position = following.start() if following else len(text)
            for body, written_id in zip(bodies, ids, strict=True):
                found.append(RawCall(start=start, end=position, body=body, written_id=written_id))
                start = position
            if broken or not bodies:
                found.append(RawCall(start=start, end=position, body="", error="the call is not valid JSON"))
        return found

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """See `ToolCallFormat.decode`."""
        try:
            value = load_json(body)
        except (ValueError, RecursionError):
            return "", {}, "the call is not valid JSON"
        if not self._keyed or not isinstance(value, dict) or "name" in value:
            return read_call_value(value)
        if len(value) != 1:
            return "", {}, "the call is not an object of one key, the tool's name"
        ((name, arguments),) = value.items()
        return checked_call(name, arguments, name)


def _between(write: WriteTurn) -> str:
    """Return the tags between two calls that are written as two objects; "" where there are none."""
    try:
        text = write(_CALLS)
    except ChatFormatError:  # one call a turn
        return ""
    first, second = (find_json(text, call.name) for call in _CALLS)
    return text[first[1] : second[0]].strip(" \n,;") if first and second and first[1] <= second[0] else ""


def find_json(text: str, holding: str) -> tuple[int, int, Any] | None:
    """Return start, end and value of the first JSON object or list in a text that holds a certain text."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[\[{]", text):
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if holding in text[match.start() : end]:
            return match.start(), end, value
    return None
