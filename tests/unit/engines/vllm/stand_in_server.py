"""A vLLM server as far as `VLLMEngine` asks one, played by a transformers model: the engine's tests where there is no vLLM.

It really reads what is sent, and can be told to fail. Answers are greedy, whatever the temperature.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

_LOADING = threading.Lock()
"""transformers patches torch.nn.init and the tying of weights while it loads; two threads that load leave the patches in place."""


def _load(folder: Path | str) -> Any:
    with _LOADING:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


class StandIn:
    """The server's state, and what it was asked.

    Attributes:
        requests: Every path and body, in order.
        failures: Statuses (or "cut", for a connection that is closed) for the next completions, in place of answers.
        deaf_to: Control requests that are answered with success and change nothing.
        ignores_adapters: Samples from the model alone, whatever adapter is named.
        tokenizer: Whose `/tokenize` answers; none by default.
        raw_logprobs: As without `--logprobs-mode processed_logprobs`.
    """

    def __init__(self, folder: Path) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.failures: list[int | str] = []
        self.deaf_to: set[str] = set()
        self.ignores_adapters = False
        self.raw_logprobs = False
        self.tokenizer: Any = None
        self.stamp = "default"
        self.url = ""
        self.hold: threading.Event | None = None
        self._base = _load(folder)
        self.adapters: dict[str, PeftModel] = {}
        self._folder = folder
        self._lock = threading.Lock()

    def completions(self) -> list[Any]:
        return [body for path, body in self.requests if path == "/v1/completions" and "prompt_logprobs" not in body]

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        with self._lock:
            self.requests.append((path, body))
            if path == "/v1/completions" and self.failures:
                failure = self.failures.pop(0)
                return (0 if failure == "cut" else int(failure)), {"error": "as told"}
        if path == "/v1/completions" and self.hold is not None and "prompt_logprobs" not in body:
            self.hold.wait(30)
        with self._lock:
            if path in self.deaf_to:
                return 200, "Success"
            return self._answer(path, body)

    def _answer(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {
                "data": [{"id": "base", "parent": None}] + [{"id": n, "parent": "base"} for n in self.adapters]
            }
        if path.startswith("/server_info"):
            return 200, {"vllm_config": {"model_config": {"dtype": "torch.float32"}}}
        if path == "/weight_info":
            return 200, {"weight_version": self.stamp}
        if path == "/update_weight_version":
            self.stamp = body["new_version"]
            return 200, {"success": True}
        if path == "/reset_prefix_cache":
            return 200, {"success": True}
        if path == "/collective_rpc":
            folder = body["kwargs"]["weights_path"]
            self._base = _load(folder)
            return 200, {"results": [None]}
        if path == "/v1/load_lora_adapter":
            base = _load(self._folder)
            self.adapters[body["lora_name"]] = PeftModel.from_pretrained(base, body["lora_path"]).eval()
            return 200, "Success: added"
        if path == "/v1/unload_lora_adapter":
            del self.adapters[body["lora_name"]]
            return 200, "Success: removed"
        if path == "/v1/completions":
            return self._complete(body)
        if path == "/tokenize":
            return 200, {"tokens": self.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]}
        return 404, {"detail": "Not Found"}

    @torch.no_grad()
    def _complete(self, body: Any) -> tuple[int, Any]:
        model = self._base if body["model"] == "base" or self.ignores_adapters else self.adapters.get(body["model"])
        if model is None:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        ids, found = list(body["prompt"]), []
        scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        scored = [None] + [{str(t): {"logprob": float(s[t])}} for s, t in zip(scores[:-1], ids[1:], strict=True)]
        while len(found) < body["max_tokens"]:
            scores = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            ids.append(int(scores.argmax()))
            found.append(0.0 if body.get("top_k") == 1 and not self.raw_logprobs else float(scores.max()))
            if ids[-1] in body.get("stop_token_ids", ()):
                break
        prompt_tokens = len(body["prompt"])
        choice = {
            "token_ids": ids[prompt_tokens:],
            "logprobs": {"token_logprobs": found},
            "prompt_logprobs": scored if "prompt_logprobs" in body else None,
            "finish_reason": "length" if len(found) == body["max_tokens"] else "stop",
        }
        return 200, {"choices": [choice], "usage": {"prompt_tokens": prompt_tokens, "prompt_tokens_details": None}}


@contextmanager
def serving(folder: Path) -> Iterator[StandIn]:
    """Serve a model folder on a free port."""
    stand_in = StandIn(folder)

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: Any) -> None:
            status, answer = stand_in.answer(self.path, body)
            if not status:
                self.close_connection = True
                self.connection.close()
                return
            text = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
