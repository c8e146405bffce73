"""The tools of an MCP server (https://modelcontextprotocol.io) as a backend of mentor-pl."""

from mentor_pl_mcp.backend import MCP

__all__ = ["MCP"]
