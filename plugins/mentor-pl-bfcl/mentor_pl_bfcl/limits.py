"""Calls that the simulators would compute for hours, or until the memory is full: they are answered with an error instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_EXPONENT = 1000
MAX_PRECISION = 1000


def refusal_of(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Say why a call is not run; None where it is. No expected call of the leaderboard is refused.

    `power` takes whole numbers of any size, `square_root` and `logarithm` digits of any number, and
    `multiply` texts and lists.
    """
    for key, limit in (("exponent", MAX_EXPONENT), ("precision", MAX_PRECISION)):
        value = arguments.get(key)
        if isinstance(value, (int, float)) and not abs(value) <= limit:
            return f"{key} is too large; at most {limit} is computed here"
    if name in ("multiply", "power") and any(isinstance(value, (str, list)) for value in arguments.values()):
        return f"{name} takes numbers"
    if any(isinstance(value, int) and value.bit_length() > 4096 for value in arguments.values()):
        return f"{name} takes numbers of at most 4096 bits"
    return None
