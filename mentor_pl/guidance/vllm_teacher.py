"""A vLLM server that judges the student's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mentor_pl.errors import ConfigError
from mentor_pl.guidance.token_teachers import AskedSequence, Scoring, TokenTeacher, other_tokenizer

if TYPE_CHECKING:  # it imports aiohttp, which only this teacher needs
    from mentor_pl.engines.vllm.client import VLLMClient

_PROBE = 'Élan, 你好: {"name": "add", "arguments": {"a": 17, "b": -0.5}}\n\tdef f(x): return x ** 2  # ok\n'
"""Text on which tokenizers of different families differ."""


class VLLMTeacher(TokenTeacher):
    """A model with the student's tokenizer behind a server's prompt log-probabilities (vLLM's `prompt_logprobs`).

    The server's distribution is the model's own, at temperature 1, so the student must sample at 1,
    too.

    Args:
        url: For example `http://localhost:8000`.
        model: The name it is served under; the server's own model unless given.
        timeout_s: Longest silence of a server that works on a request.
        max_retries: How often a request is repeated after a cut connection or a busy server's
            refusal.
        max_concurrent: Requests under way; more wait.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        timeout_s: float = 600.0,
        max_retries: int = 3,
        max_concurrent: int = 64,
    ) -> None:
        try:
            import aiohttp  # noqa: F401
        except ImportError:
            raise ConfigError("VLLMTeacher needs aiohttp; install 'mentor-pl[vllm]'") from None
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"VLLMTeacher.url is {url!r}; a server's address is like http://localhost:8000")
        self.url = url.rstrip("/")
        self._model = model
        self._settings: dict[str, Any] = {
            "timeout_s": timeout_s,
            "max_retries": max_retries,
            "max_concurrent": max_concurrent,
        }
        self._opened: VLLMClient | None = None

    def check(self, tokenizer: PreTrainedTokenizerBase, temperature: float) -> None:
        """See `TokenTeacher.check`."""
        if temperature != 1:
            raise ConfigError(
                f"data.sampling.temperature is {temperature}, but a server tells its model's probabilities at temperature 1, and the "
                "two cannot be compared; set it to 1, or use ModelTeacher"
            )
        ours_of: Any = tokenizer  # transformers types it too loosely to check against
        probe = _PROBE + "".join(ours_of.get_added_vocab())
        ours = ours_of(probe, add_special_tokens=False)["input_ids"]
        body = {"model": self._served_model(), "prompt": probe, "add_special_tokens": False}
        theirs = self._client().ask(self.url, "/tokenize", body)["tokens"]
        if theirs != ours:
            place = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
            )
            raise other_tokenizer(
                f"the model at {self.url}",
                f"token {place} of a text is {ours[place : place + 1]} to the student and {theirs[place : place + 1]} to the teacher",
            )

    def logprobs(self, sequences: Sequence[AskedSequence], scoring: Scoring) -> list[Tensor | None]:
        """See `TokenTeacher.logprobs`."""
        client, model = self._client(), self._served_model()
        asked = []
        for sequence in sequences:
            ids = sequence.token_ids.tolist()
            body = {"model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
            asked.append(client.start(self.url, "/v1/completions", body))
        out: list[Tensor | None] = []
        for sequence, answer in zip(sequences, asked, strict=True):
            rows = answer.result()["choices"][0]["prompt_logprobs"]
            ids = sequence.token_ids.tolist()
            wanted = sequence.asked.nonzero()[:, 0].tolist()
            out.append(torch.tensor([rows[t][str(ids[t])]["logprob"] for t in wanted], dtype=torch.float32))
        return out

    def _client(self) -> VLLMClient:
        from mentor_pl.engines.vllm.client import VLLMClient

        if self._opened is None:
            self._opened = VLLMClient(**self._settings)
        return self._opened

    def _served_model(self) -> str:
        from mentor_pl.engines.vllm.server import VLLMServer

        if self._model is None:
            self._model = VLLMServer(self.url, self._client()).base_model
        return self._model
