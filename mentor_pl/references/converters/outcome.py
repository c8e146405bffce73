"""What a converter says about each piece of its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mentor_pl.errors import DataFileError
from mentor_pl.files.jsonl import Row
from mentor_pl.files.tables import read_table
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


def convert_rows(
    path: Path, convert: Callable[[Row, str], Iterable[Reference | Rejected]]
) -> Iterator[Reference | Rejected]:
    """Convert a file row by row: a row that cannot be read costs only itself.

    Args:
        path: See `read_table`.
        convert: Given a row and its place.
    """
    for where, row in read_table(path):
        try:
            if isinstance(row, DataFileError):
                raise row
            yield from convert(row, where)
        except DataFileError as failure:
            yield Rejected(where=where, reason=reason_of(failure, where))


def row_id(row: Row, where: str, path: Path) -> str:
    """Return a row's own id, else the file's name and the row's number."""
    stated = row.get("id")
    if isinstance(stated, (str, int)) and not isinstance(stated, bool) and stated != "":
        return str(stated)
    return f"{path.stem.partition('?')[0]}-{where.rpartition(':')[2]}"


def reason_of(failure: DataFileError, where: str) -> str:
    """Return what was expected where, without the place and the value: the same words for the same cause."""
    text = str(failure).removeprefix(f"{where}: ")
    at = text.find("field '")
    return re.sub(r"\[\d+\]", "[]", text[max(at, 0) :].partition(", found")[0])
