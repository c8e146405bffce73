"""An HTTP client whose replies are bounded: never more than so many bytes, never to another address."""

from __future__ import annotations

from typing import Any

from openai import DefaultAsyncHttpxClient


class ReplyTooLargeError(Exception):
    """A reply was broken off, since it grew beyond the limit."""


class BoundedClient(DefaultAsyncHttpxClient):
    """Reads replies whole, up to a limit, and follows no redirect: a conversation goes where it is meant to go.

    Args:
        max_reply_bytes: After decompression.
        timeout_s: For each step: to connect, to send, and between two pieces of the reply.
    """

    def __init__(self, *, max_reply_bytes: int, timeout_s: float) -> None:
        super().__init__(follow_redirects=False, timeout=timeout_s)
        self._max_reply_bytes = max_reply_bytes

    async def send(self, request: Any, **options: Any) -> Any:
        """Send a request, and return the whole reply.

        Raises:
            ReplyTooLargeError: It is larger than the limit.
        """
        response = await super().send(request, **{**options, "stream": True})
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > self._max_reply_bytes:
                    raise ReplyTooLargeError(f"the reply is larger than {self._max_reply_bytes} bytes")
        finally:
            await response.aclose()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        # The class of whichever httpx the client is built on.
        return type(response)(response.status_code, headers=headers, content=bytes(body), request=request)
