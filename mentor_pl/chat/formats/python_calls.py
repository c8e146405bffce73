"""Python calls: a list, `[get_weather(city='Rome'), now()]`, bare (Llama 3.2) or in a marker (LFM2), or one a line (MiniCPM3)."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from mentor_pl.chat.formats.base import MAX_CALL_CHARS, RawCall, ToolCallFormat, WriteTurn, checked_call
from mentor_pl.chat.formats.markers import loose
from mentor_pl.chat.formats.values import plain_value
from mentor_pl.messages import ToolCall, ToolSpec

_CALL = ToolCall(call_id="call00000", name="probe_alpha", arguments={"key_one": "value_one"})
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_NEXT_LINE = re.compile(r"[ \t]*\n\s*(?P<call>[A-Za-z_][\w.]*\()")
_BARE = re.compile(r"(?P<list>\[\s*[A-Za-z_][\w.]*\()")


class PythonCallsFormat(ToolCallFormat):
    """Calls in Python's syntax, with named arguments.

    Args:
        marker: What comes before the list; "" for none.
        close: What comes behind it.
    """

    name = "Python calls"
    priority = 60

    def __init__(self, marker: str = "", close: str = "") -> None:
        self._marker = re.compile(rf"{loose(marker)}\s*(?P<list>)") if marker else _BARE
        self._close = close
        self._closer = re.compile(rf"\s*{loose(close)}") if close else None

    @classmethod
    def learn(cls, write: WriteTurn) -> ToolCallFormat | None:
        """See `ToolCallFormat.learn`."""
        match = re.search(r"""\[?probe_alpha\(key_one=['"]value_one['"]\)\]?""", text := write((_CALL,)))
        return cls(text[: match.start()].strip(), text[match.end() :].strip()) if match else None

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        found: list[RawCall] = []
        position = 0
        while match := self._marker.search(text, position):
            end = _calls_end(text, match.start("list"))
            if end is None:  # an open bracket: up to the closing marker, or to the end
                end = text.find(self._close, match.end()) if self._close else -1
                end = len(text) if end < 0 else end
            source = text[match.start("list") : end]
            if self._closer and (closing := self._closer.match(text, end)):
                end = closing.end()
            calls = _split(source)
            error = None if calls else "the calls are not valid Python"
            for index, call in enumerate(calls or [""]):
                found.append(RawCall(start=match.start() if index == 0 else end, end=end, body=call, error=error))
            position = max(end, match.end())
        return found

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """See `ToolCallFormat.decode`."""
        call = ast.parse(body, mode="eval").body
        if not isinstance(call, ast.Call):
            return "", {}, "the call is not written as name(argument=value)"
        name = ast.unparse(call.func)
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            return name, {}, "the call gives arguments without their names"
        arguments: dict[str, Any] = {}
        for keyword in call.keywords:
            try:
                arguments[str(keyword.arg)] = plain_value(keyword.value)
            except (ValueError, RecursionError):
                return name, {}, f"the argument {keyword.arg!r} is no plain value"
        return checked_call(name, arguments)


def _split(source: str) -> list[str]:
    """Return the source of each call; none where it is no Python."""
    if len(source) > MAX_CALL_CHARS:
        return []
    try:
        lines = ast.parse(_escaped_line_breaks(source.strip())).body
        nodes = [line.value for line in lines if isinstance(line, ast.Expr)]
        items = nodes[0].elts if len(nodes) == 1 and isinstance(nodes[0], ast.List) else nodes
        return [ast.unparse(item) for item in items] if len(nodes) == len(lines) else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []


def _escaped_line_breaks(source: str) -> str:
    """Escape line breaks within quotes: templates write texts as they are, and so do students."""
    return _QUOTED.sub(lambda match: match[0].replace("\n", "\\n").replace("\r", "\\r"), source)


def _calls_end(text: str, start: int) -> int | None:
    """Return where a list of calls ends, or calls of which each has a line; None where a bracket stays open."""
    end = expression_end(text, start)
    while end is not None and text[start] != "[" and (further := _NEXT_LINE.match(text, end)):
        end = expression_end(text, further.start("call"))
    return end


def expression_end(text: str, start: int) -> int | None:
    """Return where the brackets that a text opens are closed again, quotes respected; None where they are not."""
    depth, quote, position = 0, "", start
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth <= 0:
                return position + 1
        position += 1
    return None
