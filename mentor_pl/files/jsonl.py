"""JSON Lines: strict reading that names file and line, and writing that a crash cannot spoil."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mentor_pl.errors import DataFileError
from mentor_pl.files.strict_json import strict_loads

_log = logging.getLogger(__name__)

Row = dict[str, Any]


def read_lines(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """Read a file's lines in constant memory, each with its `path:line`; blank ones are passed over.

    Raises:
        DataFileError: The file cannot be opened.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as failure:
        raise DataFileError(f"{path}: cannot be read ({failure.strerror}); check the path") from failure
    except ValueError as failure:
        raise DataFileError(f"{str(path)!r}: cannot be read ({failure}); check the path") from failure
    with file:
        for number, line in enumerate(file, start=1):
            # Windows editors put a byte-order mark before the first line.
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield f"{path}:{number}", line


def parse_line(line: bytes, where: str) -> Row:
    """Return the object of a line.

    Raises:
        DataFileError: It is no UTF-8, no JSON (see `strict_loads`), or no object.
    """
    try:
        value = strict_loads(line)
    except UnicodeDecodeError as failure:
        raise DataFileError(
            f"{where}: expected UTF-8, found byte {line[failure.start]:#04x} at column {failure.start + 1}; "
            "save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as failure:
        torn = "" if line.endswith(b"\n") else " (the line has no end: was its writer stopped?)"
        start = max(0, failure.pos - 20)
        raise DataFileError(
            f"{where}: expected one JSON object, found {failure.msg} at column {failure.colno}{torn}, near "
            f"{failure.doc[start : failure.pos + 20]!r}; correct or remove the line"
        ) from None
    except ValueError as failure:
        raise DataFileError(
            f"{where}: expected one JSON object, found {failure!s:.200}; correct or remove the line"
        ) from None
    if not isinstance(value, dict):
        raise DataFileError(
            f"{where}: expected one JSON object, found {type(value).__name__}; JSON Lines files hold one object a line"
        )
    return value


def row_to_line(row: Mapping[str, Any]) -> bytes:
    """Return the line of an object, its end included.

    Lone surrogates, which a student may write, cannot be UTF-8; a line that holds one is written in
    ASCII with escapes.

    Raises:
        ValueError: The row holds NaN or an infinity.
    """
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def _sync_folder(folder: Path) -> None:
    # Without this the rename itself may be lost with the power.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a whole file at once: whoever opens `path` sees the old content or the new, never a part.

    Args:
        path: Where to; its folder is made. One writer at a time.
        rows: Objects that JSON can hold, in order; may be a generator.

    Returns:
        The number of lines written.

    Raises:
        OSError: The disk is full or may not be written; `path` is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        with temporary.open("wb") as file:
            for row in rows:
                file.write(row_to_line(row))
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)
    return count


class AppendWriter:
    """Appends whole lines to a file; each is with the operating system when `write` returns, so it survives a kill -9.

    On opening, a torn last line (of a writer that was killed) is dropped. Use as a context manager
    or call `close`.
    """

    def __init__(self, path: str | Path, *, durable: bool = False):
        """Open the file, making it and its folder where they are missing.

        Args:
            path: A JSON Lines file. One writer at a time.
            durable: Wait for the disk at every line, so that it survives a power cut too.
        """
        self.path = Path(path)
        self._durable = durable
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(self.path)
        self._file = self.path.open("ab", buffering=0)

    def write(self, row: Mapping[str, Any]) -> tuple[int, int]:
        """Append one object.

        Returns:
            Where its line starts in the file, and the line's length, in bytes.

        Raises:
            OSError: The line could not be written whole; no part of it stays.
            ValueError: The row holds NaN or an infinity.
        """
        line = row_to_line(row)
        start = self._file.tell()
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
            if self._durable:
                os.fsync(self._file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
            raise
        return start, len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> AppendWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _drop_torn_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            _log.warning("%s: dropped a torn last line of %d bytes", path, end - keep)
            file.truncate(keep)
