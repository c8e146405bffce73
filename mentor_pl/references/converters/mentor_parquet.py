"""The parquet schema of the MENTOR authors' release (that of ReCall and verl), read with pyarrow (extra `parquet`).

Columns: `question`; `reward_model.ground_truth` (a text, or a list whose first is taken); `extra_info.func_schemas` (a list of tools or
its JSON); `tool_calls_used` (names or calls, a list or its JSON), as a column or within `extra_info`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.files.references import reference_from_row
from mentor_pl.reference import Reference
from mentor_pl.references.converters.outcome import Rejected

_BATCH_ROWS = 1024


def mentor_parquet(path: Path) -> Iterator[Reference | Rejected]:
    """Convert a parquet file.

    Args:
        path: A file as the authors' data scripts write it.

    Yields:
        For each row a reference, or why there is none.

    Raises:
        ConfigError: pyarrow is not installed.
        DataFileError: The file is no parquet file, or lacks the columns.
    """
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ConfigError("reading parquet needs pyarrow; install 'mentor-pl[parquet]'") from None
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ArrowInvalid) as failure:
        raise DataFileError(f"{path}: cannot be read as parquet ({failure}); check the path") from failure
    columns = file.schema_arrow.names
    if missing := {"question", "reward_model", "extra_info"} - set(columns):
        raise DataFileError(f"{path}: expected the columns {', '.join(sorted(missing))}, found {', '.join(columns)}")
    number = 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        for row in batch.to_pylist():
            number += 1
            where = f"{path}:{number}"
            try:
                yield _convert(row, where, f"{path.stem}-{number}")
            except (DataFileError, json.JSONDecodeError, KeyError, TypeError, IndexError) as failure:
                yield Rejected(where=where, reason=_reason(failure))


def _reason(failure: Exception) -> str:
    text = str(failure)
    return (
        text.partition(": ")[2].partition(", found")[0] if isinstance(failure, DataFileError) else f"a field is {text}"
    )


def _convert(row: dict[str, Any], where: str, reference_id: str) -> Reference:
    extra = row["extra_info"]
    answer = row["reward_model"]["ground_truth"]
    calls = row.get("tool_calls_used", extra.get("tool_calls_used"))
    return reference_from_row(
        {
            "id": reference_id,
            "prompt": row["question"],
            "answer": answer[0] if isinstance(answer, list) else answer,
            "tools": _unpacked(extra["func_schemas"]),
            "tool_calls": [_without_nulls(call) for call in _unpacked(calls) or []],
            "teacher": "mentor-release",
            "domain": row.get("data_source"),
        },
        where,
    )


def _unpacked(value: Any) -> Any:
    value = json.loads(value) if isinstance(value, str) else value
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _without_nulls(value: Any) -> Any:
    """Drop what parquet added: a struct column gives every row the keys of all rows, filled with null."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
