"""An OpenAI-like endpoint on the loopback that misbehaves in one way, as those of providers and gateways do."""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = {"role": "assistant", "content": "\\boxed{3}"}


def completion(message=ANSWER, finish_reason="stop", **more):
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": usage, **more}


class Endpoint(ThreadingHTTPServer):
    """Answers every request in one way.

    Attributes:
        requests: What was asked, in order.
        stop: Set when the endpoint is closed, so that no handler outlives it.
    """

    daemon_threads = True

    def __init__(self, act: Callable[[Handler], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.act, self.requests, self.stop = act, [], threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Say nothing: clients that break off are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append({"path": self.path, **json.loads(body)})
        self.close_connection = True
        self.server.act(self)

    def log_message(self, *_):
        pass

    def begin(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, value, status=200, **headers):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.begin(status, Content_Length=len(data), **headers)
        self.wfile.write(data)


def says(value, status=200, **headers):
    """Always the same."""
    return lambda handler: handler.send(value, status, **headers)


def endless(handler):
    """A body without an end."""
    handler.begin()
    while not handler.server.stop.is_set():
        handler.wfile.write(b" " * 65536)


def drips(handler):
    """A byte now and then, so that no single wait is long."""
    data = json.dumps(completion()).encode()
    handler.begin(Content_Length=len(data))
    for byte in data:
        if handler.server.stop.wait(0.05):
            return
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()


def silent(handler):
    """Nothing at all."""
    handler.server.stop.wait(60)


def cut(handler):
    """Half a reply."""
    data = json.dumps(completion()).encode()
    handler.begin(Content_Length=len(data))
    handler.wfile.write(data[:40])


def packed(body, encoding, says=None):
    """A body that is packed in one way, and perhaps said to be in another."""
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "raw deflate": lambda b: raw.compress(b) + raw.flush()}
    data = pack[encoding](body)
    return lambda handler: handler.send(data, Content_Encoding=says or encoding.removeprefix("raw "))


def in_chunks(body):
    """A packed body of no said length."""
    data = gzip.compress(body)

    def act(handler):
        handler.begin(Content_Encoding="gzip", Transfer_Encoding="chunked")
        for start in range(0, len(data), 1000):
            part = data[start : start + 1000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")

    return act


def no_http(handler):
    """Another protocol."""
    handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")


@contextmanager
def endpoint(act):
    """Serve while the block runs."""
    server = Endpoint(act)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("what was waited for did not happen")
