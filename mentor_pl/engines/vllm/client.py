"""HTTP to vLLM servers: many requests at once, from one background thread."""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import aiohttp

from mentor_pl.errors import EngineError

_CONNECT_TIMEOUT_S = 10.0
_FIRST_BACKOFF_S = 0.5
_RETRIED_STATUS = (429, 502, 503, 504)
_SHOWN_CHARS = 500

T = TypeVar("T")


class VLLMClient:
    """Asks servers; calls may come from any thread.

    Cut connections and the statuses of a busy server or gateway are retried with growing waits. A
    time-out is not: what took too long would take as long again.

    Args:
        timeout_s: Longest silence of a server that works on a request.
        max_retries: Tries after the first.
        max_concurrent: Requests under way at one server; more wait here.
    """

    def __init__(self, *, timeout_s: float, max_retries: int, max_concurrent: int) -> None:
        self._timeout_s, self._max_retries, self._max_concurrent = timeout_s, max_retries, max_concurrent
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._http: aiohttp.ClientSession | None = None

    def start(self, url: str, path: str, body: Mapping[str, Any] | None = None, *, remedy: str = "") -> Future[Any]:
        """Ask without waiting: POST where there is a body, else GET. Cancelling the future makes the server drop the request.

        Args:
            url: The server.
            path: Beginning with a slash.
            body: Sent as JSON.
            remedy: What a refusal of this request usually calls for.

        Returns:
            A future of the decoded answer; its exception is an `EngineError` that names the server,
            what it said and the remedy.
        """
        return self._submit(self._ask(url, path, body, remedy))

    def ask(self, url: str, path: str, body: Mapping[str, Any] | None = None, *, remedy: str = "") -> Any:
        """Ask and wait; see `start`."""
        return self.start(url, path, body, remedy=remedy).result()

    def close(self) -> None:
        """Drop what is under way and end the thread."""
        if self._loop is None or self._thread is None:
            return
        self._submit(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        atexit.unregister(self.close)
        self._loop = self._thread = None

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop is None:  # not in the constructor: a config is parsed more often than it is run
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-client", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _ask(self, url: str, path: str, body: Mapping[str, Any] | None, remedy: str) -> Any:
        if self._http is None:
            # No total: it would count the wait for a free connection.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=self._timeout_s)
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=self._max_concurrent)
            self._http = aiohttp.ClientSession(timeout=timeout, connector=connector)
        problem = ""
        for attempt in range(self._max_retries + 1):
            if attempt:
                await asyncio.sleep(_FIRST_BACKOFF_S * 2 ** (attempt - 1))
            try:
                async with self._http.request("GET" if body is None else "POST", url + path, json=body) as response:
                    text = await response.text(errors="replace")
                if response.status == 200:
                    return _decoded(url, path, text)
                problem = f"answered HTTP {response.status} to {path}: {text[:_SHOWN_CHARS]}"
                if response.status not in _RETRIED_STATUS:
                    raise EngineError(f"vLLM server {url} {problem}{_hint(remedy)}")
            except aiohttp.ConnectionTimeoutError:
                problem = f"accepted no connection within {_CONNECT_TIMEOUT_S:g} s"
            except aiohttp.ServerTimeoutError:
                raise EngineError(
                    f"vLLM server {url} said nothing to {path} for {self._timeout_s:g} s; look into its log, or raise timeout_s"
                ) from None
            except aiohttp.ClientError as failure:
                problem = f"cannot be reached: {failure or type(failure).__name__}"
        raise EngineError(
            f"vLLM server {url} {problem} (tried {self._max_retries + 1} times); start it (scripts/vllm_server.sh) or mend `urls`"
        )


def _decoded(url: str, path: str, text: str) -> Any:
    """Return the JSON of an answer, or its text: some control requests are answered in words."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as wrong:
        raise EngineError(f"vLLM server {url} answered to {path} what is not JSON: {text[:80]!r}") from wrong


def _hint(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""
