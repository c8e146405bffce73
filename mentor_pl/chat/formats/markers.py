"""What learned formats do with the markers that a template writes around the parts of a call."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_PARTS = re.compile(r"<[^<]*|\[[^\[<]*|^[^<\[]+")


def common_prefix(*texts: str) -> str:
    """Return what all texts begin with."""
    return os.path.commonprefix(texts)


def common_suffix(*texts: str) -> str:
    """Return what all texts end with."""
    return os.path.commonprefix([text[::-1] for text in texts])[::-1]


def from_first_bracket(text: str) -> str:
    """Return the text from its first `<` or `[` on; "" where it has none. What two calls share by chance comes before."""
    match = re.search(r"[<\[]", text)
    return text[match.start() :] if match else ""


def loose(marker: str) -> str:
    """Return a pattern for a marker in which blanks may be missing or more."""
    return r"\s*".join(re.escape(word) for word in marker.split())


def opener(marker: str) -> str:
    """Return a pattern for what opens a call. Of several tags only the last one must be there: students forget the outer ones."""
    *outer, last = _PARTS.findall(marker)
    pattern = ""
    for part in outer:
        pattern = rf"(?:{pattern}{loose(part)}\s*)?"
    return pattern + loose(last)


def closer(marker: str) -> str:
    """Return a pattern for what closes a call. Of several tags only the first one must be there."""
    first, *outer = _PARTS.findall(marker)
    pattern = ""
    for part in reversed(outer):
        pattern = rf"(?:\s*{loose(part)}{pattern})?"
    return loose(first) + pattern


def around(text: str, parts: Sequence[str]) -> list[str] | None:
    """Return what stands before, between and behind parts of a text; None where they do not stand there in this order."""
    pieces: list[str] = []
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return None
        pieces.append(text[position:found])
        position = found + len(part)
    return [*pieces, text[position:]]
