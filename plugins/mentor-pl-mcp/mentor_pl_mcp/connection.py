"""One connection to one MCP server, usable from any thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import threading
from collections.abc import Mapping
from typing import Any

import mcp
from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, TextContent

from mentor_pl.errors import ToolBackendError

_LATE_S = 2.0


class ToolFailed(Exception):
    """The server answered that the call failed; its words are for the model."""


class Connection:
    """A client with an event loop of its own.

    One task both enters and leaves the client, because its cancel scopes must not cross tasks.

    Args:
        server: What to connect to: a URL or the parameters of a process.
        timeout_s: Seconds for one call.
        start_timeout_s: Seconds for connecting and listing the tools.
        max_in_flight: How many calls may be under way at once.

    Raises:
        ToolBackendError: It cannot be started or does not answer.
    """

    def __init__(
        self,
        server: str | mcp.StdioServerParameters,
        *,
        timeout_s: float,
        start_timeout_s: float,
        max_in_flight: int,
    ) -> None:
        self._server, self._timeout_s = server, timeout_s
        self._max_in_flight = max_in_flight
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()
        self._client: mcp.Client | None = None
        self._closed = False
        ready: concurrent.futures.Future[list[mcp.Tool]] = concurrent.futures.Future()
        self._life = asyncio.run_coroutine_threadsafe(self._live(ready, start_timeout_s), self._loop)
        try:
            self.tools = ready.result(start_timeout_s)
        except BaseException as failure:
            self.close()
            reason = (
                f"did not answer within {start_timeout_s:g} s" if isinstance(failure, TimeoutError) else _words(failure)
            )
            raise ToolBackendError(f"the MCP server {describe(server)} cannot be used: {reason}") from failure

    async def _live(self, ready: concurrent.futures.Future[list[mcp.Tool]], start_timeout_s: float) -> None:
        self._over = asyncio.Event()
        self._places = asyncio.Semaphore(self._max_in_flight)
        try:
            async with mcp.Client(self._server, read_timeout_seconds=start_timeout_s) as client:
                tools: list[mcp.Tool] = []
                cursor: str | None = None
                while True:
                    page = await client.list_tools(cursor=cursor)
                    tools += page.tools
                    if not (cursor := page.next_cursor):
                        break
                self._client = client
                ready.set_result(tools)
                await self._over.wait()
        except BaseException as failure:
            if not ready.done():
                ready.set_exception(failure)
            elif not self._over.is_set():
                raise
        finally:
            self._client = None

    @property
    def alive(self) -> bool:
        """True while calls can be made."""
        return not self._closed and not self._life.done()

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        async with self._places:
            if self._client is None:
                raise ToolBackendError(f"the MCP server {describe(self._server)} is gone")
            return await self._client.call_tool(name, dict(arguments), read_timeout_seconds=self._timeout_s)

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Make one call and return its text.

        Raises:
            ToolFailed: The server says that it failed.
            TimeoutError: No answer in time.
            ToolBackendError: The server is gone.
        """
        if not self.alive:
            raise ToolBackendError(f"the MCP server {describe(self._server)} is gone")
        future = asyncio.run_coroutine_threadsafe(self._call(name, arguments), self._loop)
        try:
            result = future.result(self._timeout_s + _LATE_S)
        except (TimeoutError, concurrent.futures.TimeoutError) as late:
            future.cancel()
            raise TimeoutError from late
        except mcp.MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise TimeoutError from error
            if error.code == CONNECTION_CLOSED:
                self.close()
                raise ToolBackendError(f"the MCP server {describe(self._server)} closed the connection") from error
            raise ToolFailed(error.message) from error
        except (Exception, concurrent.futures.CancelledError) as failure:
            self.close()
            raise ToolBackendError(f"the MCP server {describe(self._server)} was lost: {_words(failure)}") from failure
        text = content_text(result)
        if result.is_error:
            raise ToolFailed(text)
        return text

    def close(self) -> None:
        """Leave the server, which ends a server process. May be called again."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._over.set())
        with contextlib.suppress(BaseException):
            self._life.result(10.0)
        self._life.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self._loop.close()


def describe(server: str | mcp.StdioServerParameters) -> str:
    """Name a server in an error message."""
    return server if isinstance(server, str) else " ".join([server.command, *server.args])[-120:]


def _words(failure: BaseException) -> str:
    while inner := getattr(failure, "exceptions", None):  # task groups wrap what went wrong
        failure = inner[0]
    return f"{type(failure).__name__}: {failure}"


def content_text(result: CallToolResult) -> str:
    """Return a result as text; what is not text is named, not shown."""
    parts = [block.text if isinstance(block, TextContent) else f"[{block.type}]" for block in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)
