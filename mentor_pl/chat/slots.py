"""Slots: what stands for foreign text while a chat template renders, so that it can be told from the template's own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mentor_pl.chat.tokens import Piece

# The quote tells how often the template JSON-escapes contents, as Llama 3's does.
_SLOT = '\ue000"{}\ue001'
_SLOT_IN_TEXT = re.compile('\ue000(\\\\*)"(\\d+)\ue001')
Followed = str | Piece | tuple[int, int]
"""A piece of what follows a turn: the template's text, foreign text, or a slot (its number, and how often it is JSON-escaped)."""
MARKS = re.compile("[\ue000\ue001]")
"""What slots are made of: private characters, which no language uses."""


def slot(number: int) -> str:
    """Return what stands for content `number`."""
    return _SLOT.format(number)


def split_at_slots(text: str) -> list[str | tuple[int, int]]:
    """Split rendered text into template text and pairs of slot number and how often its content is JSON-escaped there."""
    pieces: list[str | tuple[int, int]] = []
    position = 0
    for match in _SLOT_IN_TEXT.finditer(text):
        if match.start() > position:
            pieces.append(text[position : match.start()])
        # Each escape doubles the backslashes and adds one.
        pieces.append((int(match[2]), (len(match[1]) + 1).bit_length() - 1))
        position = match.end()
    if position < len(text):
        pieces.append(text[position:])
    return pieces


def fill_slots(text: str | Sequence[Followed], contents: Sequence[str]) -> list[Piece]:
    """Put the contents into their slots."""
    pieces = split_at_slots(text) if isinstance(text, str) else text
    return [
        piece
        if isinstance(piece, Piece)
        else Piece(text=piece)
        if isinstance(piece, str)
        else Piece(text=_escaped(contents[piece[0]], piece[1]), foreign=True)
        for piece in pieces
    ]


def _escaped(content: str, times: int) -> str:
    for _ in range(times):
        content = json.dumps(content, ensure_ascii=False)[1:-1]
    return content
