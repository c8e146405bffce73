"""An OpenAI-compatible endpoint within a test, which fails as often as it is told to."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from mentor_pl.references.openai_teacher import OpenAITeacher


class ChatEndpoint:
    """Answers what `answer` says to a request; counts questions by their messages.

    A share `faults` of all requests fails: 429, 500, a connection that is cut, or a reply that is no JSON.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], str], faults: float = 0.0) -> None:
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        chance, lock, outer = random.Random(7), threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = json.dumps(request["messages"])
                with lock:
                    outer.asked[question] += 1
                    fault = chance.choice(("429", "500", "cut", "garbage")) if chance.random() < faults else ""
                    outer.answered[question] += not fault
                if fault == "cut":
                    return self.connection.close()
                body = {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "m",
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": answer(request)},
                            "finish_reason": "stop",
                        }
                    ],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
                }
                data = b"<html>" if fault == "garbage" else json.dumps({} if fault else body).encode()
                self.send_response(int(fault) if fault.isdigit() else 200)
                self.send_header("Content-Type", "application/json")
                if fault == "429":
                    self.send_header("Retry-After", "0")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @contextmanager
    def running(self) -> Iterator[Self]:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def model(self, max_retries: int = 12) -> OpenAITeacher:
        return OpenAITeacher("m", self.url, api_key_env="", max_retries=max_retries, max_backoff_s=0.02, timeout_s=20)
