"""Tools as other data sets describe them: type names of Python, Java and BFCL, and flat lists of parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mentor_pl.files.fields import is_absent, refusal
from mentor_pl.files.strict_json import strict_loads

_TYPES = {
    **dict.fromkeys(("dict", "mapping"), "object"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    **dict.fromkeys(("int", "long"), "integer"),
    **dict.fromkeys(("list", "tuple", "set", "sequence"), "array"),
    "str": "string",
    "bool": "boolean",
    "none": "null",
}
"""Names that JSON Schema has others for. Those of other languages (Java's HashMap) are not here, and admit any value:
what stands for them in BFCL is source text."""

_JSON_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_GENERIC = re.compile(r"^([\w.]+)\s*\[(.*)\]$")


def json_type(name: Any) -> str | None:
    """Return JSON Schema's name of a type; None for one that admits any value."""
    kind = str(name).strip().lower()
    kind = _TYPES.get(kind, kind)
    return kind if kind in _JSON_TYPES else None


def json_schema(node: Any, *, names: bool = False) -> Any:
    """Put JSON Schema's type names into a schema that has others.

    Args:
        node: The schema, or a part of it.
        names: True where the keys of `node` are property names and so never keywords.
    """
    if isinstance(node, list):
        return [json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "type" and not names:
            kinds = value if isinstance(value, list) else [value]
            known = [kind for kind in map(json_type, kinds) if kind]
            if len(known) == len(kinds):
                out["type"] = known if isinstance(value, list) else known[0]
        elif key in ("default", "enum"):
            out[key] = value
        elif key == "optional" and not names:
            continue
        elif key == "required" and not names and not isinstance(value, list):
            continue  # a mark on the property itself, which only the object above may list
        else:
            out[key] = json_schema(value, names=key == "properties" and not names)
    return out


def _python_type(hint: str) -> dict[str, Any]:
    """Return the schema of a Python type hint such as `List[int]`."""
    hint = hint.strip()
    if match := _GENERIC.match(hint):
        outer, inner = match[1].rpartition(".")[2].lower(), match[2]
        if outer in ("optional", "union"):
            return {}
        if json_type(outer) == "array":
            return {"type": "array", "items": _python_type(inner)} if "," not in inner else {"type": "array"}
        hint = outer
    kind = json_type(hint)
    return {"type": kind} if kind else {}


def flat_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Make a schema of xLAM's flat form: name -> `{"type": "str, optional", "description", "default"}`."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, about in parameters.items():
        about = about if isinstance(about, dict) else {"type": about}
        hint, *marks = str(about.get("type", "any")).split(", optional")
        schema = _python_type(hint)
        if about.get("description"):
            schema["description"] = str(about["description"])
        if not is_absent(about.get("default")):
            schema["default"] = about["default"]
        elif not marks and "default" not in about and about.get("required") is not False:
            required.append(name)
        properties[name] = schema
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def tool_rows(value: Any, where: str, field: str = "tools") -> list[dict[str, Any]]:
    """Return the OpenAI items of tools in any of the known forms.

    Args:
        value: A list, one tool, a JSON text of these, or several JSON objects one after the other.
        where: Its place.
        field: The way to it.

    Raises:
        DataFileError: It is none of these.
    """
    if isinstance(value, str):
        value = json_values(value)
        value = value[0] if len(value) == 1 else value
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise refusal(where, field, expected="a list of tools", found=items, remedy="this converter needs the tools")
    return [_tool_row(item, where, f"{field}[{index}]") for index, item in enumerate(items)]


def _tool_row(item: Any, where: str, field: str) -> dict[str, Any]:
    inner = item.get("function") if isinstance(item, dict) else None
    tool = inner if isinstance(inner, dict) else item
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise refusal(where, field, expected="a tool with a name", found=item, remedy="name it")
    parameters = next(
        (tool[key] for key in ("parameters", "input_schema", "inputSchema", "arguments") if tool.get(key)), {}
    )
    if isinstance(parameters, str):
        parameters = (json_values(parameters) or [{}])[0]
    if not isinstance(parameters, dict):
        parameters = {}
    if _is_schema(parameters.get("properties")) or json_type(parameters.get("type")) == "object":
        schema = json_schema(parameters)
        schema["type"] = "object"
        marked = tool.get("required")
        if isinstance(marked, list) and "required" not in schema:
            schema["required"] = marked
        schema.setdefault("properties", {})
    else:
        schema = flat_parameters(parameters)
    about = tool.get("description")
    return {
        "type": "function",
        "function": {
            "name": tool["name"],
            "description": about if isinstance(about, str) else "",
            "parameters": schema,
        },
    }


def _is_schema(properties: Any) -> bool:
    """Say whether a value is a schema's `properties`, and not what is said of a parameter of that name."""
    return isinstance(properties, dict) and all(isinstance(about, (dict, bool)) for about in properties.values())


def json_values(text: str) -> list[Any]:
    """Return the objects and lists that stand in a text, one after the other; what is none is passed over."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    position = 0
    while match := re.compile(r"[\[{]").search(text, position):
        try:
            value, position = decoder.raw_decode(text, match.start())
            values.append(strict_loads(json.dumps(value)))
        except (ValueError, RecursionError):
            position = match.start() + 1
    return values
