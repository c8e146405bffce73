"""The parquet schema of the MENTOR authors' release (that of ReCall and verl), read with pyarrow (extra `parquet`).

Columns: `question`; `reward_model.ground_truth` (a text, or a list of accepted ones);
`extra_info.func_schemas` (a list of tools or its JSON) and, where the tools can be run,
`extra_info.env` (their Python source, for `PythonSource`); `tool_calls_used` (names or calls, a
list or its JSON), as a column or within `extra_info`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentor_pl.files.fields import MISSING, is_absent, object_field, refusal
from mentor_pl.files.references import reference_from_row
from mentor_pl.files.strict_json import strict_loads
from mentor_pl.reference import Reference
from mentor_pl.references.converters.outcome import Rejected, convert_rows


def mentor_parquet(path: Path) -> Iterator[Reference | Rejected]:
    """Convert a parquet file.

    Args:
        path: A file as the authors' data scripts write it.

    Yields:
        For each row a reference, or why there is none.

    Raises:
        ConfigError: pyarrow is not installed.
        DataFileError: The file is no parquet file.
    """
    return convert_rows(path, lambda row, where: [_convert(row, where, f"{path.stem}-{where.rpartition(':')[2]}")])


def _convert(row: dict[str, Any], where: str, reference_id: str) -> Reference:
    extra = _object(row, "extra_info", where)
    calls = row.get("tool_calls_used")
    calls = _unpacked(extra.get("tool_calls_used") if is_absent(calls) else calls, "tool_calls_used", where)
    answer = _object(row, "reward_model", where).get("ground_truth")
    if isinstance(answer, dict):  # ReCall writes {"target": [...]}
        answer = answer.get("target")
    env = {} if is_absent(extra.get("env")) else {"env": extra["env"]}
    return reference_from_row(
        {
            **env,
            "id": reference_id,
            "prompt": row.get("question"),
            "answer": answer,
            "tools": _unpacked(extra.get("func_schemas", MISSING), "extra_info.func_schemas", where),
            "tool_calls": calls,
            "teacher": "mentor-release",
            "domain": row.get("data_source"),
        },
        where,
    )


def _object(row: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return a nested column; verl and pandas also write it as a JSON text."""
    return object_field(_unpacked(row.get(name), name, where), name, where, "this converter is for the authors' files")


def _unpacked(value: Any, field: str, where: str) -> Any:
    if isinstance(value, str) and value:
        try:
            value = strict_loads(value)
        except ValueError as failure:
            remedy = f"{failure!s:.100}"
            raise refusal(where, field, expected="JSON, or a list", found=value, remedy=remedy) from None
    return value
