"""A real MCP server with tools that behave well and badly. `python demo_server.py [PORT]`: stdio, or streamable HTTP on a port."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

server = MCPServer("demo")
notes: list[str] = []


class Point(BaseModel):
    x: int
    y: int = 0


@server.tool()
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@server.tool()
def find(
    query: Annotated[str, Field(description="What to look for.")], mode: Literal["exact", "fuzzy"] = "exact"
) -> list[str]:
    """Search."""
    return [f"{query} {mode} {i}" for i in range(2)]


@server.tool()
def length(point: Point) -> int:
    """Measure a point."""
    return abs(point.x) + abs(point.y)


@server.tool()
def note(text: str) -> str:
    """Remember a text; returns all of them."""
    notes.append(text)
    return ", ".join(notes)


@server.tool()
async def sleep(seconds: float) -> str:
    """Sleep."""
    await asyncio.sleep(seconds)
    return "woke up"


@server.tool()
def fail() -> str:
    """Raise an error."""
    raise ToolError("kaput")


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


@server.tool()
def long(chars: int) -> str:
    """Return a long text."""
    return "x" * chars


@server.tool()
def environment() -> str:
    """List the environment."""
    return " ".join(f"{name}={value}" for name, value in os.environ.items())


@server.tool()
def pid() -> int:
    """Return the process id."""
    return os.getpid()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
