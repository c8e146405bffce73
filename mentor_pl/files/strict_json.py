"""JSON as the standard has it: Python's own reader also takes NaN, infinities and nesting that no writer survives."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, cast

MAX_DEPTH = 64
"""Deeper values are refused: whoever writes or validates them later recurses, from a deeper stack than ours."""

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def strict_loads(text: str | bytes) -> Any:
    """Read a JSON text.

    Raises:
        ValueError: It is no JSON, not UTF-8, deeper than `MAX_DEPTH`, or holds a number beyond a
            double's range.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if _may_be_deep(text) and deeper_than(value, MAX_DEPTH):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"values nested deeper than {MAX_DEPTH} levels"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null or a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):  # which nobody could write down again
        raise ValueError(f"the number {digits:.40} is too large")
    return value


def _may_be_deep(text: str) -> bool:
    """Tell quickly that a text is not deep. Brackets within strings count too, so that yes means maybe."""
    brackets = text.encode("utf-8", "surrogatepass").translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        shorter = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    return bool(brackets)


def deeper_than(value: Any, depth: int) -> bool:
    """Tell whether lists and objects lie within each other more than `depth` times. Does not recurse."""
    level = [value]
    for _ in range(depth):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += cast("dict[str, Any]", item).values()
            elif isinstance(item, list):
                inner += cast("list[Any]", item)
        if not inner:
            return False
        level = inner
    return any(isinstance(item, (dict, list)) for item in level)
