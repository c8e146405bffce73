"""A small HTTP server on the loopback address that answers as its path says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def _send(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        path, query = urlsplit(self.path).path, parse_qsl(urlsplit(self.path).query)
        if path == "/echo" or path.startswith("/items/"):
            said = {
                "method": self.command,
                "path": path,
                "query": query,
                "body": body.decode(),
                "key": self.headers.get("X-Key"),
            }
            self._send(200, json.dumps(said).encode())
        elif path.startswith("/status/"):
            self._send(int(path.removeprefix("/status/")), b"sorry", "text/plain", Location="/echo")
        elif path == "/long":
            self._send(200, b"x" * 100_000, "text/plain")
        elif path == "/image":
            self._send(200, b"\x89PNG\0", "image/png")
        elif path == "/hang":
            time.sleep(3)
        elif path == "/drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(30):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.1)
        elif path == "/search":
            asked = json.loads(body)
            found = [{"id": str(i), "contents": f"Title {i}\n{asked['query']} {i}"} for i in range(asked["top_n"] + 2)]
            self._send(200, json.dumps(found).encode())
        elif path == "/wrapped":
            self._send(
                200, json.dumps({"result": [{"document": {"title": "T", "text": "wrapped"}, "score": 1.0}]}).encode()
            )
        else:
            self._send(404, b"no such page", "text/plain")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer


class LocalServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        seen: Method and target of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.seen: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None: ...


@contextmanager
def local_server() -> Iterator[LocalServer]:
    """Serve in a thread."""
    server = LocalServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
