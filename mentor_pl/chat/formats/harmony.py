"""Channels (gpt-oss): a turn is several messages, `analysis` for thought, `commentary` to a tool, `final` for the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mentor_pl.chat.formats.base import RawCall, ToolCallFormat, WriteTurn, checked_call
from mentor_pl.messages import ToolCall, ToolSpec

_CALL = ToolCall(call_id="call00000", name="probe_alpha", arguments={"key_one": "value_one"})
_MESSAGE = "<|message|>"
_END = re.compile(r"<\|end\|>|<\|call\|>|<\|return\|>|(?=<\|start\|>)|\Z")
_RECIPIENT = re.compile(r"\bto=(?P<name>[\w.:-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One message of a turn: from its header to its end token."""

    start: int
    end: int
    header: str
    body: str


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
            RawCall(start=part.start, end=part.end, body=f"{to['name']} {part.body}")
            for part in _parts(text)
            if (to := _RECIPIENT.search(part.header))
        ]

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """See `ToolCallFormat.decode`."""
        name, _, arguments = body.partition(" ")
        return checked_call(name.removeprefix("functions."), arguments.strip() or "{}")

    def split_reasoning(self, text: str) -> tuple[str, str] | None:
        """See `ToolCallFormat.split_reasoning`: what stands in the channel `analysis` is thought."""
        thought: list[str] = []
        spoken: list[str] = []
        parts = list(_parts(text))
        for part in parts:
            if _RECIPIENT.search(part.header):
                spoken.append(text[part.start : part.end])
            elif "analysis" in part.header:
                thought.append(part.body.strip())
            else:
                spoken.append(part.body)
        return "\n".join(thought), "".join(spoken) if parts else text

    def is_forged(self, text: str) -> bool:
        """See `ToolCallFormat.is_forged`."""
        return re.search(r"<\|start\|>(?!assistant)", text) is not None or super().is_forged(text)


def _parts(text: str) -> Iterator[_Part]:
    start = 0
    while (marker := text.find(_MESSAGE, start)) >= 0:
        body = marker + len(_MESSAGE)
        end = _END.search(text, body)
        if end is None:  # it matches at the text's end at the latest
            return
        yield _Part(start=start, end=end.end(), header=text[start:marker], body=text[body : end.start()])
        start = end.end()
