"""Channels (gpt-oss): a turn is several messages, `analysis` for thought, `commentary` to a tool, `final` for the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mentor_pl.chat.formats.base import RawCall, ToolCallFormat, WriteTurn, checked_call
from mentor_pl.messages import ToolCall, ToolSpec

_CALL = ToolCall(call_id="call00000", name="probe_alpha", arguments={"key_one": "value_one"})
_PART = re.compile(
    r"(?:<\|start\|>assistant)?(?P<header>(?:(?!<\|message\|>|<\|start\|>).)*)<\|message\|>"
    r"(?P<body>.*?)(?:<\|end\|>|<\|call\|>|<\|return\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)
_RECIPIENT = re.compile(r"\bto=(?P<name>[\w.:-]+)")


class HarmonyFormat(ToolCallFormat):
    """OpenAI's open-weight models."""

    name = "Harmony channels"

    @classmethod
    def learn(cls, write: WriteTurn) -> ToolCallFormat | None:
        """See `ToolCallFormat.learn`."""
        text = write((_CALL,))
        return cls() if "<|channel|>" in text and "<|message|>" in text else None

    def find(self, text: str) -> list[RawCall]:
        """See `ToolCallFormat.find`."""
        return [
            RawCall(start=part.start(), end=part.end(), body=f"{to['name']} {part['body']}")
            for part in _PART.finditer(text)
            if (to := _RECIPIENT.search(part["header"]))
        ]

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """See `ToolCallFormat.decode`."""
        name, _, arguments = body.partition(" ")
        return checked_call(name.removeprefix("functions."), arguments.strip() or "{}")

    def split_reasoning(self, text: str) -> tuple[str, str] | None:
        """See `ToolCallFormat.split_reasoning`: what stands in the channel `analysis` is thought."""
        thought: list[str] = []
        spoken: list[str] = []
        for part in _PART.finditer(text):
            to_tool = _RECIPIENT.search(part["header"]) is not None
            if to_tool:
                spoken.append(part[0])
            elif "analysis" in part["header"]:
                thought.append(part["body"].strip())
            else:
                spoken.append(part["body"])
        return "\n".join(thought), "".join(spoken) if _PART.search(text) else text

    def is_forged(self, text: str) -> bool:
        """See `ToolCallFormat.is_forged`."""
        return re.search(r"<\|start\|>(?!assistant)", text) is not None or super().is_forged(text)
