"""Tools offered, from and to the JSON of the OpenAI chat format."""

from __future__ import annotations

import functools
import json
from typing import Any

from mentor_pl.errors import DataFileError
from mentor_pl.files.fields import MISSING, is_absent, list_field, object_field, refusal, refuse_lone_surrogates
from mentor_pl.messages import ToolSpec


def tool_from_row(value: Any, where: str, field: str) -> ToolSpec:
    """Read a tool: an OpenAI item, its bare function object, or a name alone.

    Raises:
        DataFileError: It is none of these.
    """
    remedy = 'write {"type": "function", "function": {"name", "description", "parameters"}}, or the name alone'
    if isinstance(value, str) and value:
        return ToolSpec(name=value)
    tool = object_field(value, field, where, remedy)
    if not is_absent(tool.get("function")):
        field = f"{field}.function"
        tool = object_field(tool["function"], field, where, remedy)
    name = tool.get("name", MISSING)
    if not isinstance(name, str) or not name:
        raise refusal(where, f"{field}.name", expected="the tool's name", found=name, remedy=remedy)
    description = tool.get("description")
    if not isinstance(description, str) and not is_absent(description):
        raise refusal(where, f"{field}.description", expected="a text", found=description, remedy=remedy)
    parameters = tool.get("parameters")
    if is_absent(parameters) or parameters == []:  # PHP writes an empty object as a list
        return ToolSpec(name=name, description=description or "")
    parameters = object_field(parameters, f"{field}.parameters", where, "write the JSON Schema of the arguments")
    return ToolSpec(name=name, description=description or "", parameters=parameters)


def tool_to_row(tool: ToolSpec) -> Any:
    """Return the OpenAI item, or the name alone where nothing else is known."""
    return tool.name if tool == ToolSpec(name=tool.name) else tool.to_openai()


def tools_from_rows(value: Any, where: str, field: str = "tools") -> tuple[ToolSpec, ...]:
    """Read the tools offered. Equal lists give one and the same tuple: most rows of a file offer the same tools.

    Raises:
        DataFileError: One is malformed, or two have one name.
    """
    rows = list_field(
        value, field, where, expected="a list of tools", remedy="name the tools offered; [] where none are"
    )
    try:
        return _shared_tools(json.dumps(rows))
    except DataFileError:
        return _read_tools(rows, where, field)  # raises again, and names the place


@functools.lru_cache(maxsize=1024)
def _shared_tools(text: str) -> tuple[ToolSpec, ...]:
    return _read_tools(json.loads(text), "", "tools")


def _read_tools(rows: list[Any], where: str, field: str) -> tuple[ToolSpec, ...]:
    refuse_lone_surrogates({field: rows}, where)
    tools = tuple(tool_from_row(row, where, f"{field}[{index}]") for index, row in enumerate(rows))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise refusal(
                where, f"{field}[{index}]", expected="another name", found=tool.name, remedy="offer each tool once"
            )
        seen.add(tool.name)
    return tools
