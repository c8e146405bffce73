"""A rollout's requests to vLLM servers: all under way at once, each row back as soon as it is complete."""

from __future__ import annotations

import queue
import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mentor_pl.engines.base import EngineSession, EngineStatistics, GenerationRequest, SamplingParams
from mentor_pl.engines.vllm.client import VLLMClient
from mentor_pl.errors import EngineError
from mentor_pl.trajectory import Completion

_ASK_INTERRUPT_S = 0.02
_LEAST_TEMPERATURE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the servers hold since the last sync.

    Attributes:
        version: Number of weight updates behind the weights.
        label: Names these weights on the servers, and no others of any run.
        models: The name to ask each server for, by its URL: the adapter's, or that of the whole
            model.
    """

    version: int
    label: str
    models: dict[str, str]


class VLLMSession(EngineSession):
    """Sends each request at once. Rows that share a prompt go to one server, whose prefix cache then holds it; so do a row's later turns.

    Args:
        client: Asks the servers.
        served: What they hold.
        sampling: How tokens are drawn.
        stop_token_ids: End a completion.
        first_server: Which server the first prompt goes to, so that ranks do not all begin with the
            same.

    Raises:
        EngineError: vLLM cannot sample so.
    """

    def __init__(
        self,
        client: VLLMClient,
        served: Served,
        sampling: SamplingParams,
        stop_token_ids: Sequence[int],
        first_server: int = 0,
    ) -> None:
        if 0 < sampling.temperature < _LEAST_TEMPERATURE:
            raise EngineError(
                f"sampling.temperature is {sampling.temperature:g}, but vLLM raises all below {_LEAST_TEMPERATURE:g} to that; "
                "set it to 0 (greedy) or higher"
            )
        self._client, self._served = client, served
        self._stop_token_ids = tuple(stop_token_ids)
        # Everything is said: what is left out, a server takes from the model's generation config.
        self._fields: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(self._stop_token_ids),
            "ignore_eos": True,
            "logprobs": 0,
            "return_token_ids": True,
        }
        urls = list(served.models)
        self._urls = urls[first_server % len(urls) :] + urls[: first_server % len(urls)]
        self._url_of_prompt: dict[tuple[int, ...], str] = {}
        self._url_of_row: dict[int, str] = {}
        self._rows_at: Counter[str] = Counter()
        self._under_way: dict[int, Future[Any]] = {}
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._statistics = EngineStatistics()

    @property
    def statistics(self) -> EngineStatistics:
        """As the servers count; without `--enable-prompt-tokens-details` they do not say what their prefix cache saved."""
        return self._statistics

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        """Send requests."""
        for request in requests:
            url = self._place(request)
            body = {
                "model": self._served.models[url],
                "prompt": list(request.token_ids),
                "max_tokens": request.max_new_tokens,
                "seed": _request_seed(request),
                **self._fields,
            }
            future = self._client.start(
                url,
                "/v1/completions",
                body,
                remedy="a model that is not found means that the server was restarted or another run unloaded it; a prompt that is too "
                "long, that --max-model-len is less than the student's context",
            )
            self._under_way[request.row] = future
            future.add_done_callback(lambda _, row=request.row: self._done.put(row))

    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        """Wait for the first completion; return it with all others that are there."""
        rows: list[int] = []
        while self._under_way and not rows:
            try:
                rows.append(self._done.get(timeout=_ASK_INTERRUPT_S))
            except queue.Empty:
                if interrupt is not None and interrupt():
                    return []
        while True:
            try:
                rows.append(self._done.get_nowait())
            except queue.Empty:
                break
        return [(row, self._completion(row, self._under_way.pop(row).result())) for row in rows]

    def release(self, row: int) -> None:
        """Count the row out of its server's load."""
        if url := self._url_of_row.pop(row, None):
            self._rows_at[url] -= 1

    def abandon(self) -> None:
        """Make the servers drop what is still under way."""
        for future in self._under_way.values():
            future.cancel()

    def _place(self, request: GenerationRequest) -> str:
        """Choose the row's server: the one it has, else its prompt's, else the one with the fewest rows."""
        url = self._url_of_row.get(request.row) or self._url_of_prompt.get(request.token_ids)
        if url is None:
            url = min(self._urls, key=lambda candidate: self._rows_at[candidate])
            self._url_of_prompt[request.token_ids] = url
        if request.row not in self._url_of_row:
            self._url_of_row[request.row] = url
            self._rows_at[url] += 1
        return url

    def _completion(self, row: int, answer: Any) -> Completion:
        try:
            [choice] = answer["choices"]
            token_ids, logprobs = tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"])
            prompt_tokens = answer["usage"]["prompt_tokens"]
            cached = (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        except (KeyError, TypeError, ValueError) as wrong:
            raise EngineError(
                f"vLLM server {self._url_of_row.get(row)} gave no token ids or log-probabilities: {str(answer)[:300]}; this engine needs "
                "vLLM 0.32 or later"
            ) from wrong
        if not token_ids or len(token_ids) != len(logprobs) or choice["finish_reason"] not in ("stop", "length"):
            raise EngineError(
                f"vLLM server {self._url_of_row.get(row)} broke a completion off ({choice['finish_reason']}: {len(token_ids)} tokens, "
                f"{len(logprobs)} log-probabilities); is it being paused or shut down?"
            )
        self._statistics += EngineStatistics(
            prefill_tokens=prompt_tokens - cached, row_steps=len(token_ids), sampled_tokens=len(token_ids)
        )
        return Completion(
            token_ids=token_ids,
            logprobs=logprobs,
            finish_reason="stop" if token_ids[-1] in self._stop_token_ids else "length",
            policy_version=self._served.version,
        )


def _request_seed(request: GenerationRequest) -> int:
    """Return a seed for one turn: vLLM draws a request's random numbers from its start, so turns of one row need different seeds."""
    return random.Random(f"{request.seed}/{len(request.token_ids)}").getrandbits(62)
