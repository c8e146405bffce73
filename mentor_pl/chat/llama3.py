"""Llama 3.x: the whole turn is `{"name": ..., "parameters": {...}}`, several of them separated by semicolons."""

from __future__ import annotations

import json

from mentor_pl.chat.format import RawCall, ToolCallFormat

_PYTHON_TAG = "<|python_tag|>"


class Llama3Format(ToolCallFormat):
    """Llama 3.1, 3.2 and 3.3 with JSON tool calls."""

    name = "Llama 3"
    forged = ("<|start_header_id|>", "<|end_header_id|>")
    arguments_key = "parameters"

    @classmethod
    def recognises(cls, template: str) -> bool:
        """See `ToolCallFormat.recognises`."""
        return "<|start_header_id|>" in template and '"parameters"' in template

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`. A turn that does not begin with `{` or the Python tag calls nothing."""
        start = position = len(text) - len(text.lstrip())
        if text.startswith(_PYTHON_TAG, position):
            position += len(_PYTHON_TAG)
        found: list[RawCall] = []
        decoder = json.JSONDecoder()
        while text.startswith("{", position):
            try:
                _, end = decoder.raw_decode(text, position)
            except (ValueError, RecursionError):
                found.append(RawCall(start=start, end=len(text), body=text[position:]))
                break
            body, position = text[position:end], end + len(text[end:]) - len(text[end:].lstrip("; \n"))
            found.append(RawCall(start=start, end=position, body=body))
            start = position
        return found
