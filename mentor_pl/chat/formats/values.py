"""Argument values written without types, as `<parameter=city>Rome</parameter>` has them: the tool's schema says what they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from mentor_pl.chat.formats.base import MAX_CALL_CHARS, load_json
from mentor_pl.messages import ToolSpec

_PLAIN = re.compile(r"[\w.+-]{1,40}")


def argument_schema(tools: Mapping[str, ToolSpec], tool: str, argument: str) -> Mapping[str, Any] | None:
    """Return the JSON Schema of a tool's argument, or None where it is unknown."""
    spec = tools.get(tool)
    properties = spec.parameters.get("properties") if spec is not None else None
    schema = properties.get(argument) if isinstance(properties, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


def read_value(text: str, schema: Mapping[str, Any] | None) -> Any:
    """Read a value: a text where the schema wants one, else JSON, else Python (some templates write `True` and `None`), else a text.

    Args:
        text: As written.
        schema: Of the argument; None where it is unknown.
    """
    types = _types(schema)
    if types == {"string"}:
        return text
    try:
        value = load_json(text)
    except (ValueError, RecursionError):
        value = python_literal(text)
    if isinstance(value, str) or (types and "string" in types and _type_of(value) not in types):
        return text if value is text or "string" in types or not types else value
    return value


def python_literal(text: str) -> Any:
    """Read a Python literal that JSON can hold; the text itself where it is none."""
    if len(text) > MAX_CALL_CHARS or not (text[:1] in "[{('\"-" or _PLAIN.fullmatch(text)):
        return text
    try:
        return plain_value(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def plain_value(node: ast.AST) -> Any:
    """Read a Python literal, with JSON's `true`, `false` and `null` beside Python's.

    Raises:
        ValueError: It is none, or nothing that JSON can hold.
    """
    match node:
        case ast.Constant(value=str() | bool() | int() | float() | None as value):
            if isinstance(value, float) and value in (float("inf"), float("-inf")):
                raise ValueError("a number is too large")
            return value
        case ast.Name(id="true" | "false" | "null" as name):
            return {"true": True, "false": False, "null": None}[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=ast.Constant(value=int() | float() as number)):
            return -plain_value(node.operand) if isinstance(op, ast.USub) else number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [plain_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            names = [plain_value(key) if key is not None else None for key in keys]
            if not all(isinstance(name, str) for name in names):
                raise ValueError("a key is no text")
            return dict(zip(names, (plain_value(value) for value in values), strict=True))
        case _:
            raise ValueError("no literal")


def _types(schema: Mapping[str, Any] | None) -> set[str]:
    """Return the types that a schema allows; empty where it does not say."""
    if schema is None:
        return set()
    found: set[str] = set()
    given = schema.get("type")
    found |= {given} if isinstance(given, str) else set(given) if isinstance(given, list) else set()
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key) or ():
            found |= _types(part) if isinstance(part, Mapping) else set()
    if not found and isinstance(schema.get("enum"), list):
        found = {_type_of(value) for value in schema["enum"]}
    return found


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case None:
            return "null"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
