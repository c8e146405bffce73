"""Reading fields of a row: each refusal names file, line, field, what was expected, what was found, and the remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mentor_pl.errors import DataFileError

M = TypeVar("M", bound=BaseModel)

MISSING: Any = object()
"""Stands for a field that is not there; None is a field that is null."""


def shown(value: Any) -> str:
    """Say what was found, in at most about 80 characters."""
    if value is MISSING:
        return "nothing"
    if value is None:
        return "null"
    try:
        text = json.dumps(value, default=repr)
    except (ValueError, TypeError, RecursionError):
        text = repr(type(value))
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def refusal(where: str, field: str, *, expected: str, found: Any, remedy: str) -> DataFileError:
    """Make the error for one field.

    Args:
        where: `path:line`.
        field: The way to it, for example `messages[2].tool_calls[0].function.name`.
        expected: What it should hold.
        found: What it holds, or `MISSING`.
        remedy: What to do.
    """
    return DataFileError(f"{where}: field {field[:200]!r}: expected {expected}, found {shown(found)}; {remedy}")


def text_field(row: Mapping[str, Any], name: str, where: str, *, remedy: str, field: str | None = None) -> str:
    """Return a text, numbers being written out.

    Args:
        row: The object that holds the field.
        name: Its key.
        where: `path:line`.
        remedy: What to do if it is not there or of another kind.
        field: The way to it, where that is longer than its key.

    Raises:
        DataFileError: It is missing, or neither text nor number.
    """
    value = row.get(name, MISSING)
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return json.dumps(value)
    raise refusal(where, field or name, expected="a text or a number", found=value, remedy=remedy)


def optional_text(row: Mapping[str, Any], name: str, where: str) -> str | None:
    """Return a text, or None where the field is absent.

    Raises:
        DataFileError: It is there and neither text nor number.
    """
    if is_absent(row.get(name)):
        return None
    return text_field(row, name, where, remedy=f"write a text, or leave {name!r} out")


def is_absent(value: Any) -> bool:
    """Tell whether a field is not there: missing, null, or an empty text, as Arrow, pandas and endpoints write it."""
    return value is MISSING or value is None or value == ""


def object_field(value: Any, field: str, where: str, remedy: str) -> dict[str, Any]:
    """Return an object.

    Raises:
        DataFileError: It is none.
    """
    if not isinstance(value, dict):
        raise refusal(where, field, expected="an object", found=value, remedy=remedy)
    return value


def list_field(value: Any, field: str, where: str, *, expected: str, remedy: str) -> list[Any]:
    """Return a list.

    Raises:
        DataFileError: It is none.
    """
    if not isinstance(value, list):
        raise refusal(where, field, expected=expected, found=value, remedy=remedy)
    return value


def refuse_lone_surrogates(row: Mapping[str, Any], where: str) -> None:
    r"""Refuse text such as a lone `\ud800`, which no tokenizer takes.

    Raises:
        DataFileError: Some text within has one.
    """
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        _name_surrogate(row, where, "")


def _name_surrogate(value: Any, where: str, field: str) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as failure:
            raise refusal(
                where,
                field,
                expected="Unicode text",
                found=value[failure.start : failure.end],
                remedy=f"it is half of a surrogate pair, at character {failure.start}; write U+FFFD in its place",
            ) from None
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _name_surrogate(item, where, f"{field}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _name_surrogate(key, where, field)
            _name_surrogate(item, where, f"{field}.{key}" if field else key)


_IN_WORDS = {"missing": "a value", "bool_type": "true or false", "int_type": "a whole number", "float_type": "a number"}


def validated(model: type[M], row: Mapping[str, Any], where: str, *, field: str = "") -> M:
    """Read the fields of a row that a pydantic model names; absent ones take the model's defaults.

    Args:
        model: What the fields should hold.
        row: Its other fields are passed over.
        where: `path:line`.
        field: The way to the row, where it lies within another.

    Raises:
        DataFileError: A field holds something else. The first one is named.
    """
    try:
        return model.model_validate({key: value for key, value in row.items() if not is_absent(value)})
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
    path = field
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    missing = first["type"] == "missing"
    expected = _IN_WORDS.get(first["type"], first["msg"].removeprefix("Input should be "))
    if first["type"] == "enum":
        expected = "one of " + expected.replace("'", "").replace(" or ", ", ")
    raise refusal(
        where,
        path,
        expected=expected,
        found=MISSING if missing else first["input"],
        remedy="write it" if missing else "correct it, or leave it out",
    ) from None
