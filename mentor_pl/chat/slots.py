"""Slots: what stands for a message's content while a chat template renders, so that foreign text can be told from the template's own."""

from __future__ import annotations

import re
from collections.abc import Sequence

# The quote tells whether the template JSON-escapes contents, as Llama 3's does.
_SLOT = '\ue000"{}\ue001'
_SLOT_IN_TEXT = re.compile('\ue000(\\\\?)"(\\d+)\ue001')


def slot(number: int) -> str:
    """Return what stands for content `number`."""
    return _SLOT.format(number)


def split_at_slots(text: str) -> list[str | tuple[int, bool]]:
    """Split rendered text into template text and (slot number, JSON-escaped) pairs."""
    pieces: list[str | tuple[int, bool]] = []
    position = 0
    for match in _SLOT_IN_TEXT.finditer(text):
        if match.start() > position:
            pieces.append(text[position : match.start()])
        pieces.append((int(match[2]), bool(match[1])))
        position = match.end()
    if position < len(text):
        pieces.append(text[position:])
    return pieces


def fill_slots(text: str, contents: Sequence[str]) -> str:
    """Put the contents into their slots."""
    return _SLOT_IN_TEXT.sub(lambda match: contents[int(match[2])], text)
