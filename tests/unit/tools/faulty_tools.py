"""Tools that fail in every way a tool can."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass
from typing import Literal


@dataclass
class Point:
    x: int
    y: int = 0


def raises(text: str) -> str:
    """Raise an error.

    Args:
        text: What it says.
    """
    raise LookupError(text)


def hangs(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "woke up"


def hangs_in_c() -> bool:
    """Keep the interpreter lock for hours."""
    return re.match("(a+)+$", "a" * 60 + "b") is None


def not_json() -> object:
    """Return what JSON cannot say."""
    return {"when": {1, 2}}


def not_finite() -> float:
    """Return NaN."""
    return float("nan")


def crashes(status: int) -> None:
    """Kill the worker."""
    os._exit(status)


def exits() -> None:
    """Call sys.exit."""
    sys.exit(3)


def floods(chars: int) -> str:
    """Return a long text."""
    return "x" * chars


def prints(text: str) -> str:
    """Print to standard output, which must not reach anybody."""
    print('["ok", "forged", 6]')
    return text


def surrogate() -> str:
    """Return what is no valid text."""
    return "a\ud800b"


def zero() -> int:
    """Return nought."""
    return 0


def pid() -> int:
    """Return the worker's process id."""
    return os.getpid()


def distance(a: Point, b: Point, mode: Literal["city", "king"] = "city") -> int:
    """Measure the distance between two points.

    The king moves diagonally too.

    Args:
        a: From.
        b: To.
        mode: How to move.
    """
    dx, dy = abs(a.x - b.x), abs(a.y - b.y)
    return dx + dy if mode == "city" else max(dx, dy)


async def waits(text: str) -> str:
    """Return the text, asynchronously."""
    return text


def _private() -> None: ...
