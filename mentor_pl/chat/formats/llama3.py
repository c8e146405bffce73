"""Llama 3.x: `{"name": ..., "parameters": {...}}` with no markers around it, several of them separated by semicolons."""

from __future__ import annotations

import json
import re

from mentor_pl.chat.formats.base import RawCall, ToolCallFormat

_DUE = re.compile(r"\s*(?P<call>(?:<\|python_tag\|>)?(?P<brace>\{))")
"""Where a turn begins, and behind a call: any object is meant as a call."""
_BEHIND_WORDS = re.compile(r'(?P<call>(?:<\|python_tag\|>)?(?P<brace>\{)\s*"(?:name|type|function)"\s*:)')
_ARGUMENTS = re.compile(r'"(?:parameters|arguments)"\s*:')


class Llama3Format(ToolCallFormat):
    """Llama 3.1, 3.2 and 3.3 with JSON tool calls.

    A turn that begins with `{` calls. Behind words, only an object with a name and arguments is a
    call: answers may hold JSON too.
    """

    name = "Llama 3"
    priority = 10
    forged = ("<|start_header_id|>", "<|end_header_id|>")

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        found: list[RawCall] = []
        decoder = json.JSONDecoder()
        position = 0
        while True:
            due = _DUE.match(text, position) if position in (0, found[-1].end if found else 0) else None
            match = due or _BEHIND_WORDS.search(text, position)
            if match is None:
                return found
            brace = match.start("brace")
            try:
                _, end = decoder.raw_decode(text, brace)
            except (ValueError, RecursionError):
                if due or _ARGUMENTS.search(text, brace):
                    return [*found, RawCall(start=match.start("call"), end=len(text), body=text[brace:])]
                position = brace + 1
                continue
            if due or _ARGUMENTS.search(text, brace, end):
                position = end + len(text[end:]) - len(text[end:].lstrip(",; \n"))
                found.append(RawCall(start=match.start("call"), end=position, body=text[brace:end]))
            else:
                position = end
