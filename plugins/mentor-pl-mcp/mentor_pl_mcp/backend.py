"""The backend: an MCP server's tools, offered and called."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.arguments import ArgumentsValidator
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused, truncated
from mentor_pl.tools.schema import short_schema

if TYPE_CHECKING:
    from mentor_pl_mcp.connection import Connection


class MCP(ToolBackend):
    """The tools of one MCP server; give several backends for several servers, each with a prefix of its own.

    A server is trusted code: it runs with this user's rights. What a student can do with it is what
        its tools do.

    Args:
        command: Program and arguments of a server that speaks over standard input and output.
        url: Address of a server that speaks streamable HTTP, instead.
        tools: Which of its tools to offer, by the server's names; all by default.
        prefix: Put before every tool's name, so that two servers can offer tools of one name.
        env_from: Environment variables that the server process gets, beside a few harmless ones
            such as PATH and HOME.
        timeout_s: Seconds for one call.
        start_timeout_s: Seconds for starting the server and listing its tools.
        max_output_chars: Longer output is cut, with a line that says so.
        max_in_flight: How many calls may be under way at once.
        per_trajectory: True gives every trajectory a server (or a connection) of its own: for
            servers that keep state.

    Raises:
        ConfigError: Neither or both of command and url are given, a tool or variable does not
            exist, or mcp is not installed.
        ToolBackendError: The server cannot be started.
    """

    slow = True
    stateful = True  # nobody but the server knows

    def __init__(
        self,
        command: list[str] | None = None,
        url: str | None = None,
        tools: list[str] | None = None,
        prefix: str = "",
        env_from: list[str] | None = None,
        timeout_s: float = 10.0,
        start_timeout_s: float = 60.0,
        max_output_chars: int = 10_000,
        max_in_flight: int = 16,
        per_trajectory: bool = False,
    ) -> None:
        if (command is None) == (url is None):
            raise ConfigError(
                "MCP needs either `command` (a server process) or `url` (a server over HTTP), and not both"
            )
        if missing := [name for name in env_from or () if name not in os.environ]:
            raise ConfigError(f"MCP.env_from: the environment variable {missing[0]!r} is not set")
        for key, value in (
            ("timeout_s", timeout_s),
            ("max_output_chars", max_output_chars),
            ("max_in_flight", max_in_flight),
        ):
            if value <= 0:
                raise ConfigError(f"MCP.{key} is {value}; it must be above 0")
        self._command, self._url = command, url
        self._env = {name: os.environ[name] for name in env_from or ()}
        self._timeout_s, self._start_timeout_s = timeout_s, start_timeout_s
        self._max_output_chars, self._max_in_flight = max_output_chars, max_in_flight
        self._per_trajectory = per_trajectory
        self._lock = threading.Lock()
        self._shared: Connection | None = None
        first = self._connect()
        self._offered = {spec.name: spec for spec in specs_of(first)}
        if unknown := sorted(set(tools or ()) - set(self._offered)):
            first.close()
            raise ConfigError(f"the MCP server has no tool {unknown[0]!r}; it has {', '.join(self._offered) or 'none'}")
        self._server_names = {prefix + name: name for name in self._offered if tools is None or name in tools}
        self._specs = tuple(
            ToolSpec(
                name=ours, description=self._offered[theirs].description, parameters=self._offered[theirs].parameters
            )
            for ours, theirs in self._server_names.items()
        )
        self._validators = {spec.name: ArgumentsValidator(spec) for spec in self._specs}
        if per_trajectory:
            first.close()
        else:
            self._shared = first

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The server's tools, as it listed them at the start."""
        return self._specs

    def _connect(self) -> Connection:
        try:
            import mcp

            from mentor_pl_mcp.connection import Connection
        except ImportError as missing:
            raise ConfigError("MCP needs the package mcp: pip install 'mcp>=2'") from missing
        if self._url is not None:
            server = self._url
        else:
            assert self._command is not None
            leash = str(Path(__file__).with_name("leash.py"))
            arguments = ["-S", leash, str(os.getpid()), *self._command]
            server = mcp.StdioServerParameters(command=sys.executable, args=arguments, env=self._env)
        return Connection(
            server,
            timeout_s=self._timeout_s,
            start_timeout_s=self._start_timeout_s,
            max_in_flight=self._max_in_flight,
        )

    def _reconnect(self) -> Connection:
        """Connect again, to a server that must offer what it offered before: students and teachers have been told so."""
        connection = self._connect()
        if {spec.name: spec for spec in specs_of(connection)} != self._offered:
            connection.close()
            raise ToolBackendError("the MCP server offers other tools than at the start; start the run anew")
        return connection

    def _shared_connection(self) -> Connection:
        with self._lock:
            if self._shared is None or not self._shared.alive:
                self._shared = self._reconnect()
            return self._shared

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        """Open a session: on the shared server, or with `per_trajectory` on one of its own."""
        if not self._per_trajectory:
            yield ToolSession(run=lambda call: self._run(call, self._shared_connection))
            return
        connection = self._reconnect()
        try:
            yield ToolSession(run=lambda call: self._run(call, lambda: connection))
        finally:
            connection.close()

    def _run(self, call: ToolCall, connected: Callable[[], Connection]) -> ToolResult:
        from mentor_pl_mcp.connection import ToolFailed

        if refusal := refused(call, self._server_names):
            return refusal
        if complaint := self._validators[call.name].complaint(call.arguments):
            return failed(call, f"{call.name}: {complaint}")
        start = time.perf_counter()
        try:
            text = connected().call(self._server_names[call.name], call.arguments)
        except ToolFailed as failure:
            text = truncated(f"{call.name}: {failure}", self._max_output_chars)
            return failed(call, text, duration_s=time.perf_counter() - start)
        except TimeoutError:
            text = f"{call.name} took longer than {self._timeout_s:g} s"
            return failed(call, text, status=ToolStatus.TIMEOUT, duration_s=time.perf_counter() - start)
        return ToolResult(
            call_id=call.call_id,
            content=truncated(text, self._max_output_chars),
            duration_s=time.perf_counter() - start,
            output_chars=len(text),
        )

    def close(self) -> None:
        """Leave the server, which ends a server process."""
        with self._lock:
            if self._shared is not None:
                self._shared.close()
                self._shared = None


def specs_of(connection: Connection) -> list[ToolSpec]:
    """Read the tools that a server offers.

    Raises:
        ConfigError: A tool's schema points outside itself.
    """
    specs: list[ToolSpec] = []
    for tool in connection.tools:
        try:
            parameters = {"type": "object", "properties": {}, **short_schema(tool.input_schema)}
        except ValueError as wrong:
            raise ConfigError(f"the MCP server's tool {tool.name!r}: {wrong}") from wrong
        specs.append(
            ToolSpec(
                name=tool.name, description=(tool.description or tool.title or tool.name).strip(), parameters=parameters
            )
        )
    return specs
