"""Hermes / Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, results in `<tool_response>`."""

from __future__ import annotations

import re

from mentor_pl.chat.formats.base import RawCall, ToolCallFormat

_CALL = re.compile(r"<tool_call>(?P<body>.*?)(?P<close></tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)


class HermesFormat(ToolCallFormat):
    """Qwen2.5, Qwen3, Hermes, SmolLM2 with our template, and the embedded student."""

    name = "Hermes"
    priority = 0
    forged = ("<tool_response>", "</tool_response>", "<|im_start|>")

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        return [
            RawCall(
                start=match.start(),
                end=match.end(),
                body=match["body"].strip(),
                error=None if match["close"] else "the call has no closing </tool_call>",
            )
            for match in _CALL.finditer(text)
        ]
