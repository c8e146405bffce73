"""What an OpenEnv server says: its schema over HTTP, and one session over a WebSocket.

The protocol is that of `openenv-core` 0.3 (`env_server/types.py`): JSON messages `{"type", "data"}`
of the types reset, step, state and close; the server answers with observation, state or error.
Nothing of an environment's own code runs here.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from mentor_pl.errors import ToolBackendError

_CALLERS = frozenset({"VALIDATION_ERROR", "EXECUTION_ERROR"})
"""Codes of errors that the action deserves."""

_CLOSE_TIMEOUT_S = 1.0


class ActionRefusedError(Exception):
    """The environment does not take this action, or fails over it."""


def get_json(url: str, path: str, timeout_s: float) -> dict[str, Any]:
    """Read one of the server's descriptions.

    Raises:
        ToolBackendError: It cannot be read.
    """
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=timeout_s) as answer:
            value = json.load(answer)
    except (OSError, ValueError) as failure:
        raise ToolBackendError(f"the OpenEnv server at {url} does not answer {path}: {failure}") from failure
    if not isinstance(value, dict):
        raise ToolBackendError(f"the OpenEnv server at {url} answers {path} with {value!r:.80}, which is no object")
    return value


class Connection:
    """A session at a server: one environment instance, alive as long as this.

    Args:
        url: The server, `http://...` or `https://...`.
        start_timeout_s: Seconds for connecting.

    Raises:
        ToolBackendError: The server cannot be reached.
    """

    def __init__(self, url: str, start_timeout_s: float) -> None:
        self._url, self._open = url, ExitStack()
        try:
            # http becomes ws, https becomes wss.
            opening = connect(f"ws{url.removeprefix('http')}/ws", open_timeout=start_timeout_s, max_size=64 << 20)
            self._socket: ClientConnection = self._open.enter_context(opening)
        except (OSError, TimeoutError, WebSocketException) as failure:
            raise ToolBackendError(f"the OpenEnv server at {url} cannot be reached: {failure}") from failure

    def ask(self, kind: str, data: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a message and return the data of its answer.

        Raises:
            ActionRefusedError: The environment raised, or the data do not fit its schema.
            TimeoutError: It took too long; the session cannot be used any more.
            ToolBackendError: The session is lost, or the server takes no more of them.
        """
        try:
            with suppress(WebSocketException):  # a server that refuses a session says why, and closes it, unasked
                self._socket.send(json.dumps({"type": kind} | ({"data": data} if kind != "state" else {})))
            answer = json.loads(self._socket.recv(timeout=timeout_s))
        except TimeoutError:
            raise
        except (OSError, ValueError, WebSocketException) as failure:
            raise ToolBackendError(f"the session at the OpenEnv server {self._url} was lost: {failure}") from failure
        said = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(said, dict):
            raise ToolBackendError(f"the OpenEnv server at {self._url} answers {answer!r:.100}")
        if answer.get("type") != "error":
            return said
        text = f"{said.get('message', 'no reason given')}"
        if said.get("code") in _CALLERS:
            raise ActionRefusedError(text)
        if said.get("code") == "CAPACITY_REACHED":
            text += (
                "; each trajectory has a session from its first call to its end: start the server with "
                "max_concurrent_envs of at least prompts_per_round x group_size"
            )
        raise ToolBackendError(f"the OpenEnv server at {self._url} refuses: {text}")

    def close(self) -> None:
        """End the session."""
        with suppress(OSError, WebSocketException):  # TimeoutError is an OSError
            self._socket.send(json.dumps({"type": "close"}))
            self._socket.recv(timeout=_CLOSE_TIMEOUT_S)  # the server closes; it would log an error were we first
        self._open.close()

    def __enter__(self) -> Connection:
        """Return this connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session."""
        self.close()
