import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("openai")

from mentor_pl.references.bounded_http import BoundedClient, UndecodableReplyError  # noqa: E402 - needs openai

# Whichever httpx the client is built on.
(_client,) = (base for base in BoundedClient.__mro__ if base.__name__ == "AsyncClient")
httpx: Any = sys.modules[_client.__module__.partition(".")[0]]


class Watched(httpx.AsyncByteStream):
    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"packed"

    async def aclose(self) -> None:
        self.closed = True


def test_a_reply_in_an_encoding_that_was_not_asked_for_holds_no_connection() -> None:
    body = Watched()
    client = BoundedClient(max_reply_bytes=1000, timeout_s=5.0)
    client._transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"Content-Encoding": "br"}, stream=body)
    )
    with pytest.raises(UndecodableReplyError, match="'br'"):
        asyncio.run(client.get("http://localhost/"))
    assert body.closed
