"""What a converter says about each piece of its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mentor_pl.errors import DataFileError
from mentor_pl.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A piece of the source that became no reference.

    Attributes:
        where: `path:line`.
        reason: Why, in few words: the same words for the same cause, so that causes can be counted.
    """

    where: str
    reason: str


Converter = Callable[[Path], Iterator[Reference | Rejected]]
"""Reads a source in constant memory, in its order. Raises `DataFileError` where the file is not what the converter is for."""


def reason_of(failure: DataFileError) -> str:
    """Return what was expected where, without the place and the value: the same words for the same cause."""
    text = str(failure)
    at = text.find("field '")
    return re.sub(r"\[\d+\]", "[]", text[max(at, 0) :].partition(", found")[0])
