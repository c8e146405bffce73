"""Gemma 4: `<|tool_call>call:f{city:<|"|>Rome<|"|>,n:3}<tool_call|>`, with a token of its own for quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mentor_pl.chat.formats.base import MAX_CALL_DEPTH, RawCall, ToolCallFormat, WriteTurn, checked_call, load_json
from mentor_pl.chat.formats.markers import around, loose
from mentor_pl.messages import ToolCall, ToolSpec

_CALL = ToolCall(call_id="call00000", name="probe_alpha", arguments={"key_one": "value_one"})
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}


class GemmaFormat(ToolCallFormat):
    """Gemma 4 and FunctionGemma.

    Args:
        marker: Before a call, up to its name.
        quote: Before and behind a text.
        close: Behind a call.
    """

    name = "Gemma"

    def __init__(self, marker: str = "<|tool_call>call:", quote: str = '<|"|>', close: str = "<tool_call|>") -> None:
        self._marker = re.compile(rf"{loose(marker)}\s*(?P<name>[\w.-]{{1,64}})?\s*")
        self._quote = quote
        self._close = close

    @classmethod
    def learn(cls, write: WriteTurn) -> ToolCallFormat | None:
        """See `ToolCallFormat.learn`."""
        pieces = around(write((_CALL,)), ("probe_alpha", "{key_one:", "value_one"))
        if pieces is None or pieces[1] or not pieces[0].strip() or not pieces[2]:
            return None
        quote, ending = pieces[2], pieces[3]
        if not ending.startswith(quote + "}"):
            return None
        return cls(pieces[0].strip(), quote, ending.removeprefix(quote + "}").strip())

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        found: list[RawCall] = []
        position = 0
        while match := self._marker.search(text, position):
            reader = _Reader(text, match.end(), self._quote)
            error = None
            try:
                reader.value(0)
                end = reader.position
            except (ValueError, IndexError):
                error = "the call is not valid"
                end = text.find(self._close, match.end()) if self._close else -1
                end = len(text) if end < 0 else end
            body = text[match.start("name") : end] if match["name"] else ""
            if text.startswith(self._close, end):
                end += len(self._close)
            found.append(
                RawCall(start=match.start(), end=end, body=body, error=error if body else "the call has no name")
            )
            position = end
        return found

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """See `ToolCallFormat.decode`."""
        name, brace, _ = body.partition("{")
        if not brace:
            return name.strip(), {}, "the call has no arguments in braces"
        return checked_call(name.strip(), _Reader(body, len(name), self._quote).value(0))


class _Reader:
    """Reads one value and stands behind it."""

    def __init__(self, text: str, position: int, quote: str) -> None:
        self._text, self.position, self._quote = text, position, quote

    def value(self, depth: int) -> Any:
        """Read what stands here.

        Raises:
            ValueError, IndexError: It is no value, or not complete.
        """
        if depth > MAX_CALL_DEPTH:
            raise ValueError("nested too deep")
        self._blanks()
        if self._take(self._quote):
            return self._quoted()
        if self._take("{"):
            members: dict[str, Any] = {}
            while not self._closes("}"):
                self._blanks()
                key = self._quoted() if self._take(self._quote) else self._until(":")
                self._blanks()
                if not self._take(":"):
                    raise ValueError("a key without a value")
                members[key.strip()] = self.value(depth + 1)
            return members
        if self._take("["):
            items: list[Any] = []
            while not self._closes("]"):
                items.append(self.value(depth + 1))
            return items
        word = self._until(",]}").strip()
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        return load_json(word)

    def _quoted(self) -> str:
        end = self._text.index(self._quote, self.position)
        text, self.position = self._text[self.position : end], end + len(self._quote)
        return text

    def _until(self, stops: str) -> str:
        start = self.position
        while self._text[self.position] not in stops:
            self.position += 1
        return self._text[start : self.position]

    def _closes(self, bracket: str) -> bool:
        self._blanks()
        self._take(",")
        self._blanks()
        return self._take(bracket)

    def _take(self, text: str) -> bool:
        taken = self._text.startswith(text, self.position)
        self.position += len(text) if taken else 0
        return taken

    def _blanks(self) -> None:
        while self._text[self.position : self.position + 1].isspace():
            self.position += 1
