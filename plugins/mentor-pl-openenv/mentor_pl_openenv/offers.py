"""The tools of an OpenEnv environment: one for its action, or those of its MCP server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolSpec
from mentor_pl.tools.schema import short_schema
from mentor_pl_openenv.connection import Connection, get_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an environment offers.

    Attributes:
        specs: Its tools.
        by_name: Whether they are those of an MCP environment, which are called by name; else there
            is one, the action.
    """

    specs: tuple[ToolSpec, ...]
    by_name: bool

    def action(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the action that a call of a tool is."""
        return {"type": "call_tool", "tool_name": name, "arguments": arguments} if self.by_name else arguments


def read_offer(url: str, *, name: str | None, description: str | None, timeout_s: float) -> Offer:
    """Ask a server what it offers.

    Args:
        url: The server.
        name: Of the tool that the action becomes; the environment's own unless given.
        description: Of that tool; the environment's own unless given.
        timeout_s: For each question.

    Raises:
        ToolBackendError: The server does not answer.
        ConfigError: A schema points outside itself.
    """
    action = get_json(url, "/schema", timeout_s).get("action") or {}
    if action.get("title") in ("Action", "CallToolAction", "ListToolsAction"):
        with Connection(url, timeout_s) as connection:
            listed = connection.ask("step", {"type": "list_tools"}, timeout_s)
        tools = listed.get("observation", {}).get("tools") or []
        return Offer(
            specs=tuple(_spec(t["name"], t.get("description"), t.get("input_schema")) for t in tools), by_name=True
        )
    about = get_json(url, "/metadata", timeout_s)
    title = name or "".join(c if c.isalnum() else "_" for c in str(about.get("name") or "act")).lower()
    fields = {key: value for key, value in (action.get("properties") or {}).items() if key != "metadata"}
    outer = {key: value for key, value in action.items() if key != "description"}
    schema = {**outer, "properties": fields, "required": [key for key in action.get("required", ()) if key in fields]}
    said = description or about.get("description") or action.get("description")
    return Offer(specs=(_spec(title, said, schema),), by_name=False)


def _spec(name: str, description: str | None, schema: dict[str, Any] | None) -> ToolSpec:
    try:
        parameters = {"type": "object", "properties": {}, **short_schema(schema or {})}
    except ValueError as wrong:
        raise ConfigError(f"the OpenEnv tool {name!r}: {wrong}") from wrong
    return ToolSpec(name=name, description=(description or name).strip(), parameters=parameters)
