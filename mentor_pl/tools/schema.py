"""JSON Schemas made short enough to stand in every prompt: references inlined, titles dropped, unions of plain types merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

_DROPPED = ("$defs", "definitions", "title", "$schema")


def _resolve(root: Mapping[str, Any], pointer: str) -> Any:
    """Follow a JSON pointer (RFC 6901) such as `#/$defs/Point` within `root`."""
    if not pointer.startswith("#/"):
        raise ValueError(f"schema reference {pointer!r} points outside its document; only '#/...' can be followed")
    node: Any = root
    for key in pointer[2:].split("/"):
        try:
            node = node[key.replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError) as missing:
            raise ValueError(f"schema reference {pointer!r} points to nothing") from missing
    return node


def _merge_plain_types(schema: dict[str, Any]) -> dict[str, Any]:
    """Turn `anyOf: [{type: a}, {type: b}]` into `type: [a, b]`; an integer is a number, so that pair becomes one."""
    options = schema.get("anyOf")
    if not isinstance(options, list) or any(set(o) != {"type"} for o in cast("list[dict[str, Any]]", options)):
        return schema
    types: list[str] = []
    for option in cast("list[dict[str, Any]]", options):
        types += option["type"] if isinstance(option["type"], list) else [option["type"]]
    kept = [t for t in dict.fromkeys(types) if not (t == "integer" and "number" in types)]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {"type": kept[0] if len(kept) == 1 else kept, **rest}


def _short(node: Any, root: Mapping[str, Any], seen: tuple[str, ...], *, names: bool = False) -> Any:
    """Shorten one node; `names` is True where the keys of `node` are property names and so never keywords."""
    if isinstance(node, list):
        return [_short(item, root, seen) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    schema = cast("dict[str, Any]", node)
    if names:
        return {key: _short(value, root, seen) for key, value in schema.items()}
    if isinstance(pointer := schema.get("$ref"), str):
        if pointer in seen:
            return {"type": "object"}  # a type that contains itself cannot be inlined to its end
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _short({**_resolve(root, pointer), **beside}, root, (*seen, pointer))
    out = {
        key: value
        if key in ("default", "enum", "const", "examples", "required")
        else _short(value, root, seen, names=key == "properties")
        for key, value in schema.items()
        if key not in _DROPPED
    }
    return _merge_plain_types(out)


def short_schema(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an equivalent schema without `$ref`, `$defs` and `title`.

    Args:
        schema: JSON Schema of an arguments object.
        root: The document that `#/...` references point into; the schema itself where None.

    Raises:
        ValueError: A reference points outside the document or to nothing.
    """
    return _short(dict(schema), schema if root is None else root, ())


def with_integers(value: Any, *schemas: Mapping[str, Any]) -> Any:
    """Write whole floats as integers where a schema wants an integer: 2.0 is one to JSON Schema, and not to Python.

    Args:
        value: Arguments, or a part of them. Not changed.
        schemas: What may describe it.

    Returns:
        The same value, with `int` in place of `float` where no schema takes other numbers.
    """
    options = _options(schemas)
    if isinstance(value, float) and value.is_integer():
        kinds = {kind for option in options for kind in _types(option)}
        return int(value) if "integer" in kinds and "number" not in kinds else value
    if isinstance(value, dict):
        return {
            key: with_integers(item, *(_part(option, key) for option in options))
            for key, item in cast("dict[str, Any]", value).items()
        }
    if isinstance(value, list):
        items = enumerate(cast("list[Any]", value))
        return [with_integers(item, *(_item(option, index) for option in options)) for index, item in items]
    return value


def _options(schemas: Iterable[Any]) -> list[Mapping[str, Any]]:
    out: list[Mapping[str, Any]] = []
    for schema in schemas:
        if isinstance(schema, dict):
            out.append(cast("dict[str, Any]", schema))
            for key in ("anyOf", "oneOf", "allOf"):
                out += _options(cast("dict[str, Any]", schema).get(key) or ())
    return out


def _types(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type")
    return cast("list[str]", kind) if isinstance(kind, list) else [str(kind)]


def _part(schema: Mapping[str, Any], key: str) -> Any:
    known = cast("dict[str, Any]", schema.get("properties") or {})
    return known.get(key, schema.get("additionalProperties"))


def _item(schema: Mapping[str, Any], index: int) -> Any:
    first = schema.get("prefixItems") or ()
    return first[index] if index < len(first) else schema.get("items")
