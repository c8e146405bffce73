"""One vLLM server, and what the engine asks of it beside completions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mentor_pl.engines.vllm.client import VLLMClient
from mentor_pl.errors import EngineError

_DEV_MODE = "start the server with VLLM_SERVER_DEV_MODE=1 (vLLM 0.32 or later), as scripts/vllm_server.sh does"
_LORA_MODE = (
    "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and --max-lora-rank at least the adapter's, as "
    "scripts/vllm_server.sh does"
)
_SEES_FOLDER = (
    "it must see the weights' folder under the same path: set model.engine's `exchange_dir` to one that both share"
)


class VLLMServer:
    """Control of one server. Every method raises `EngineError` where the server fails or refuses.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str, client: VLLMClient) -> None:
        self.url = url
        self._client = client

    @functools.cached_property
    def base_model(self) -> str:
        """The name under which the served model itself answers, without any adapter."""
        models = self._client.ask(self.url, "/v1/models")["data"]
        return next(str(model["id"]) for model in models if model.get("parent") is None)

    @functools.cached_property
    def dtype(self) -> str:
        """In which type the server computes: "float32", "bfloat16" or "float16"."""
        info = self._client.ask(self.url, "/server_info?config_format=json", remedy=_DEV_MODE)
        return str(info["vllm_config"]["model_config"]["dtype"]).removeprefix("torch.")

    def load_adapter(self, name: str, folder: Path) -> Future[Any]:
        """Begin to load an adapter under a name that is new."""
        body = {"lora_name": name, "lora_path": str(folder)}
        return self._client.start(self.url, "/v1/load_lora_adapter", body, remedy=f"{_LORA_MODE}; {_SEES_FOLDER}")

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter."""
        self._client.ask(self.url, "/v1/unload_lora_adapter", {"lora_name": name}, remedy=_LORA_MODE)

    def load_model(self, folder: Path) -> Future[Any]:
        """Begin to put other weights into the served model."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        return self._client.start(self.url, "/collective_rpc", body, remedy=f"{_DEV_MODE}; {_SEES_FOLDER}")

    def stamp(self, label: str) -> None:
        """Let the server say from now on which weights it holds, and forget what it has cached of earlier ones."""
        self._client.ask(self.url, "/update_weight_version", {"new_version": label}, remedy=_DEV_MODE)
        self._client.ask(self.url, "/reset_prefix_cache", {}, remedy=_DEV_MODE)

    def check_stamp(self, label: str) -> None:
        """See whether the server still holds what was sent; one that was restarted has its starting weights again."""
        found = self._client.ask(self.url, "/weight_info", remedy=_DEV_MODE)["weight_version"]
        if found != label:
            raise EngineError(
                f"vLLM server {self.url} holds the weights {found!r} in place of {label!r}: it was restarted, or another run uses it; give "
                "each run servers of its own, and resume from the last checkpoint"
            )

    def check_logprobs_mode(self, model: str) -> None:
        """See whether log-probabilities are of the distribution sampled from: with one token left to choose, that is 0."""
        body = {"model": model, "prompt": [1, 2, 3], "max_tokens": 1, "temperature": 1.0, "top_k": 1, "logprobs": 0}
        answer = self._client.ask(self.url, "/v1/completions", body)
        if abs(answer["choices"][0]["logprobs"]["token_logprobs"][0]) > 1e-6:
            raise EngineError(
                f"vLLM server {self.url} gives log-probabilities from before temperature and filters; start it with "
                "--logprobs-mode processed_logprobs"
            )

    def text_logprobs(self, model: str, text: Sequence[Sequence[int]]) -> Tensor:
        """Return the log-probability of every token of a text but each row's first, [N] float64."""
        found: list[float] = []
        for row in text:  # one at a time: with LoRA enabled, vLLM 0.32 on CPUs dies of several at once
            body = {"model": model, "prompt": list(row), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
            scores = self._client.ask(self.url, "/v1/completions", body)["choices"][0]["prompt_logprobs"][1:]
            found += [score[str(token)]["logprob"] for token, score in zip(row[1:], scores, strict=True)]
        return torch.tensor(found, dtype=torch.float64)
