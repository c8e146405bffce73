"""An HTTP client whose replies are bounded: never more than so many bytes, never to another address."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from openai import DefaultAsyncHttpxClient

_ENCODINGS = "gzip, deflate"
"""Those that zlib unpacks in bounded steps; packages for br and zstd unpack whatever one read brings in one go."""

_STEP_BYTES = 1_000_000
"""Unpacked at once: all requests share one event loop, which must hear that they are to be broken off."""


class ReplyTooLargeError(Exception):
    """A reply was broken off, since it grew beyond the limit."""


class UndecodableReplyError(Exception):
    """A reply's body cannot be unpacked."""


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
            UndecodableReplyError: It is packed in a way that was not asked for, or badly.
        """
        request.headers["Accept-Encoding"] = _ENCODINGS
        response = await super().send(request, **{**options, "stream": True})
        try:
            body = _Body(response.headers.get("content-encoding", ""), self._max_reply_bytes)
            async for piece in response.aiter_raw():
                await body.take(piece)
        finally:
            await response.aclose()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        # The class of whichever httpx the client is built on.
        return type(response)(response.status_code, headers=headers, content=body.whole(), request=request)


class _Body:
    """What has come of a reply, unpacked step by step.

    Args:
        encoding: Its `Content-Encoding`.
        max_bytes: After which it is broken off.

    Raises:
        UndecodableReplyError: An encoding that was not asked for; several are none that anybody asks for.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding, self._max_bytes = encoding.strip().lower(), max_bytes
        self._bytes = bytearray()
        if self._encoding in ("", "identity"):
            self._unpacker = None
        elif self._encoding in ("gzip", "x-gzip", "deflate"):
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, as the first bytes say
        else:
            raise UndecodableReplyError(
                f"the reply has Content-Encoding {encoding[:40]!r}; {_ENCODINGS} were asked for"
            )

    async def take(self, piece: bytes) -> None:
        """Add a piece as it came over the wire."""
        while piece:
            unpacked, piece = self._unpack(piece)
            self._bytes += unpacked
            if len(self._bytes) > self._max_bytes:
                raise ReplyTooLargeError(f"the reply is larger than {self._max_bytes} bytes")
            if piece:
                await asyncio.sleep(0)

    def _unpack(self, piece: bytes) -> tuple[bytes, bytes]:
        """Return what a piece unpacks to, up to one step, and what is left of it."""
        if self._unpacker is None:
            return piece, b""
        if self._unpacker.eof:
            return b"", b""  # bytes behind the end, which browsers let pass, too
        try:
            return self._unpacker.decompress(piece, _STEP_BYTES), self._unpacker.unconsumed_tail
        except zlib.error:
            if self._encoding == "deflate" and not self._bytes:  # some servers leave the zlib header out
                self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
                self._encoding = "raw deflate"
                return b"", piece
            raise UndecodableReplyError(f"the reply's body is no {self._encoding}, which it is said to be") from None

    def whole(self) -> bytes:
        """Return all of it.

        Raises:
            UndecodableReplyError: It ends too early.
        """
        if self._unpacker is not None and self._bytes and not self._unpacker.eof:
            raise UndecodableReplyError(f"the reply's body ends before its {self._encoding} does")
        return bytes(self._bytes)
