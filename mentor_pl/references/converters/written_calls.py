"""Calls as other formats write them in the text of a message."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from mentor_pl.chat.formats.python_calls import expression_end
from mentor_pl.files.strict_json import strict_loads

_NAMES = {"true": True, "false": False, "null": None, "none": None}


class CannotReadError(ValueError):
    """A call cannot be read."""


def literal(text: str) -> Any:
    """Read JSON, or a Python literal: some models write the one for the other.

    Raises:
        CannotReadError: It is neither.
    """
    try:
        return strict_loads(text)
    except ValueError:
        pass
    try:
        return strict_loads(json.dumps(_value(ast.parse(text.strip(), mode="eval").body), allow_nan=False))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as failure:
        raise CannotReadError("a call is neither JSON nor Python") from failure


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Name) and node.id.lower() in _NAMES:
        return _NAMES[node.id.lower()]
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {str(_value(key)): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    return ast.literal_eval(node)


def call_item(name: Any, arguments: Any) -> dict[str, Any]:
    """Return the OpenAI item of a call.

    Raises:
        CannotReadError: It has no name, or its arguments are no object.
    """
    if isinstance(arguments, str):
        arguments = literal(arguments) if arguments.strip() else {}
    if not isinstance(name, str) or not name.strip() or not isinstance(arguments or {}, dict):
        raise CannotReadError("a call has no name, or arguments that are no object")
    return {"type": "function", "function": {"name": name.strip(), "arguments": arguments or {}}}


def call_items(value: Any) -> list[dict[str, Any]]:
    """Return the items of `{"name", "arguments"}`, or of a list of these, written as JSON or not.

    Raises:
        CannotReadError: One cannot be read.
    """
    value = literal(value) if isinstance(value, str) else value
    calls = value if isinstance(value, list) else [value]
    if not all(isinstance(call, dict) for call in calls):
        raise CannotReadError("a call is no object")
    return [call_item(call.get("name"), call.get("arguments", call.get("parameters"))) for call in calls]


def python_calls(text: str) -> list[dict[str, Any]]:
    """Read `[Name of Tool(a=1, b="x"), other()]`, as ToolACE and BFCL write calls; names may hold anything but brackets.

    Returns:
        The items; none where the text is no list of calls.

    Raises:
        CannotReadError: It is one, and a call in it cannot be read.
    """
    text = text.strip()
    if not re.match(r"^\[\s*[^\[\]{}()\"']+\(", text) or not text.endswith("]"):
        return []
    items: list[dict[str, Any]] = []
    position = 1
    while match := re.compile(r"\s*([^\[\](){},\"'][^\[\](){}\"']*?)\s*\(").match(text, position):
        after = expression_end(text, match.end() - 1)  # from the bracket that the match ends with
        if after is None:
            raise CannotReadError("a call does not end")
        end = after - 1
        items.append(call_item(match[1], _keywords(text[match.end() : end])))
        position = end + 1
        comma = re.compile(r"\s*,").match(text, position)
        position = comma.end() if comma else position
    if text[position:].strip() != "]":
        raise CannotReadError("a call cannot be read")
    return items


def _keywords(text: str) -> dict[str, Any]:
    try:
        tree = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args:
            raise CannotReadError("a call has arguments without names")
        return {keyword.arg or "": _value(keyword.value) for keyword in tree.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as failure:
        if isinstance(failure, CannotReadError):
            raise
        raise CannotReadError("a call's arguments are no Python") from failure
