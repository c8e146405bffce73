"""Rows of a file in whatever form it lies about: JSON Lines, a JSON array, CSV, parquet, or a Hugging Face data set.

The form is told by the name's end, and by the first character where that may be JSON Lines or an
array. Null cells, and the null keys that Arrow puts into nested ones, count as absent.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.files.jsonl import Row, parse_line, read_lines
from mentor_pl.files.strict_json import MAX_DEPTH, deeper_than, strict_loads

_log = logging.getLogger(__name__)

T = TypeVar("T")

HUB_PREFIX = "hf:"
_BATCH_ROWS = 1024
_NESTED = ("messages", "tools", "tool_calls", "answers", "follow_ups", "initial_state", "expected_state")
"""Columns that hold lists; tables that know no lists write them as JSON texts."""

_MAX_CELL_CHARS = 10_000_000


def read_table(path: str | Path) -> Iterator[tuple[str, Row | DataFileError]]:
    """Read rows in constant memory (a JSON array is held whole).

    Args:
        path: A file: `.parquet`, `.csv`, `.tsv`, else JSON Lines or a JSON array. Or a data set on
            the Hugging Face hub or in a local folder, as `hf:owner/name`, with
            `?split=test&config=main` behind it where wanted (`split` is `train` unless given).

    Yields:
        Each row with its place (`path:line`), or what is wrong with it.

    Raises:
        ConfigError: A package that the form needs is not installed.
        DataFileError: The file cannot be read at all.
    """
    text = str(path)
    if text.startswith(HUB_PREFIX):
        return _flat(text, _hub_rows(text))
    match Path(path).suffix.lower():
        case ".parquet":
            return _flat(text, _parquet_rows(Path(path)))
        case ".csv":
            return _flat(text, _csv_rows(Path(path), ","))
        case ".tsv":
            return _flat(text, _csv_rows(Path(path), "\t"))
        case _:
            return _json_rows(Path(path))


def read_rows(
    path: str | Path,
    parse: Callable[[Row, str], T],
    *,
    max_bad_lines: int = 0,
) -> Iterator[T]:
    """Read a file row by row, in constant memory.

    Args:
        path: See `read_table`.
        parse: Makes the object of a line into what is wanted; given the object and `path:line` for
            its `DataFileError`s.
        max_bad_lines: Lines that may be unusable. Each is logged with its number and left out.

    Yields:
        What `parse` returned, in file order.

    Raises:
        DataFileError: The file cannot be opened, or more than `max_bad_lines` lines are bad.
    """
    bad: list[str] = []
    for where, row in read_table(path):
        try:
            if isinstance(row, DataFileError):
                raise row
            value = parse(row, where)
        except DataFileError as failure:
            if max_bad_lines == 0:
                raise
            bad.append(where.rpartition(":")[2])
            if len(bad) > max_bad_lines:
                raise DataFileError(
                    f"{path}: {len(bad)} bad lines so far ({', '.join(bad)}), {max_bad_lines} allowed; the last: {failure}"
                ) from None
            _log.warning("left out: %s", failure)
            continue
        yield value
    if bad:
        _log.warning("%s: %d bad lines left out: %s", path, len(bad), ", ".join(bad))


def _json_rows(path: Path) -> Iterator[tuple[str, Row | DataFileError]]:
    for number, (where, line) in enumerate(read_lines(path)):
        if number == 0 and line.lstrip()[:1] == b"[":
            yield from _array_rows(path, where)
            return
        try:
            row = parse_line(line, where)
        except DataFileError as failure:
            yield where, failure
        else:
            yield where, row


def _array_rows(path: Path, start: str) -> Iterator[tuple[str, Row | DataFileError]]:
    try:
        rows = strict_loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except ValueError as failure:
        yield start, DataFileError(f"{start}: expected one JSON object, or one array in all, found {failure!s:.200}")
        return
    for number, row in enumerate(rows, start=1):
        where = f"{path}:{number}"
        if isinstance(row, dict):
            yield where, row
        else:
            yield where, DataFileError(f"{where}: expected an object in the array, found {type(row).__name__}")


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ConfigError("reading parquet needs pyarrow; install 'mentor-pl[parquet]'") from None
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ArrowInvalid) as failure:
        raise DataFileError(f"{path}: cannot be read as parquet ({failure}); check the path") from failure
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        yield from batch.to_pylist()


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL_CHARS)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter=delimiter):
                yield {name: value for name, value in row.items() if isinstance(name, str) and value != ""}
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise DataFileError(f"{path}: cannot be read as a table in UTF-8 ({failure}); check the path") from failure


def _hub_rows(source: str) -> Iterable[Row]:
    name, _, query = source.removeprefix(HUB_PREFIX).partition("?")
    options = dict(parse_qsl(query))
    if unknown := set(options) - {"split", "config"}:
        raise ConfigError(
            f"{source}: {sorted(unknown)[0]!r} is no option of a data set; the options are split and config"
        )
    if name.startswith((".", "/")) and not Path(name).is_dir():
        raise DataFileError(f"{source}: cannot be loaded (there is no folder {name}); check name and split")
    try:
        import datasets
    except ImportError:
        raise ConfigError(f"{source}: reading it needs the datasets package; install 'mentor-pl[hub]'") from None
    split = options.get("split", "train")
    try:
        if (Path(name) / "dataset_dict.json").is_file() or (Path(name) / "state.json").is_file():
            loaded: Any = datasets.load_from_disk(name)
            return loaded[split] if isinstance(loaded, dict) else loaded
        return datasets.load_dataset(name, options.get("config"), split=split, streaming=True)
    except Exception as failure:  # the hub's, the disk's and the library's own, without a common base
        reason = " ".join(str(failure).split())[:300]
        raise DataFileError(
            f"{source}: cannot be loaded ({type(failure).__name__}: {reason}); check name and split"
        ) from None


def _flat(source: str, rows: Iterable[Row]) -> Iterator[tuple[str, Row | DataFileError]]:
    for number, row in enumerate(rows, start=1):
        where = f"{source}:{number}"
        try:
            plain = {name: _plain(value) for name, value in row.items() if value is not None}
            if deeper_than(plain, MAX_DEPTH):
                raise ValueError(f"values nested deeper than {MAX_DEPTH} levels")
        except ValueError as failure:
            yield where, DataFileError(f"{where}: expected values that JSON knows, found {failure!s:.200}")
        else:
            yield where, {name: _unpacked(name, value) for name, value in plain.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it.

    Raises:
        ValueError: JSON cannot hold it.
    """
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("an infinity")
        return None if math.isnan(value) else value  # which is how pandas writes a missing value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if value is None or isinstance(value, (str, int)):
        return value
    raise ValueError(f"a {type(value).__name__}")


def _unpacked(name: str, value: Any) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    if name not in _NESTED and name != "prompt":
        return value
    try:
        inside = strict_loads(value)
    except ValueError:
        return value
    is_conversation = isinstance(inside, list) and inside and all(isinstance(m, dict) and "role" in m for m in inside)
    return inside if name in _NESTED or is_conversation else value
