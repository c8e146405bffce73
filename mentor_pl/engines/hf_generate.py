"""The reference engine: `model.generate` of transformers, for any causal language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from mentor_pl.engines.base import EngineSession, EngineStatistics, GenerationRequest, RolloutEngine, SamplingParams
from mentor_pl.engines.sampling import as_int64, sample_tokens, uniforms
from mentor_pl.engines.student_model import evaluating, generating_model
from mentor_pl.errors import ConfigError, EngineError
from mentor_pl.trajectory import Completion


class HFGenerateEngine(RolloutEngine):
    """Generates with the trainer's own model by `model.generate`: slow, but right for every architecture.

    Every turn prefills the whole conversation of every row, and rows that are done wait for the
    last one of their batch.
    """

    def __init__(self, max_batch_rows: int = 64) -> None:
        """Set the engine up.

        Args:
            max_batch_rows: Rows generated together at most; more take several batches.
        """
        if max_batch_rows < 1:
            raise ConfigError(f"max_batch_rows is {max_batch_rows}; it must be at least 1")
        self.max_batch_rows = max_batch_rows
        self._model: PreTrainedModel | None = None
        self._version = 0

    def sync(self, model: nn.Module, version: int) -> None:
        """Keep the model itself: its weights are always the present ones."""
        self._model, self._version = generating_model(model), version

    @contextmanager
    def session(self, sampling: SamplingParams, stop_token_ids: Sequence[int]) -> Iterator[EngineSession]:
        """Open a session; the model is in eval mode while it lasts."""
        if self._model is None:
            raise EngineError("HFGenerateEngine has no weights yet; call sync(model, version) before session()")
        with evaluating(self._model):
            yield _HFGenerateSession(self._model, self._version, sampling, tuple(stop_token_ids), self.max_batch_rows)


class _HFGenerateSession(EngineSession):
    def __init__(
        self,
        model: PreTrainedModel,
        version: int,
        sampling: SamplingParams,
        stop_token_ids: tuple[int, ...],
        max_batch_rows: int,
    ) -> None:
        self._model, self._version = model, version
        self._sampling, self._stop_token_ids = sampling, stop_token_ids
        self._max_batch_rows = max_batch_rows
        self._queue: list[GenerationRequest] = []
        self._statistics = EngineStatistics()

    @property
    def statistics(self) -> EngineStatistics:
        return self._statistics

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        self._queue.extend(requests)

    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        """Generate everything queued; the batch that is being generated is not interrupted."""
        batch, self._queue = self._queue[: self._max_batch_rows], self._queue[self._max_batch_rows :]
        return self._generate(batch) if batch else []

    def release(self, row: int) -> None:
        """Do nothing: no row outlives its batch."""

    @torch.no_grad()
    def _generate(self, batch: list[GenerationRequest]) -> list[tuple[int, Completion]]:
        device = next(self._model.parameters()).device
        longest = max(len(request.token_ids) for request in batch)
        # the padding is masked out, so that any id will do; 0 exists in every vocabulary
        input_ids = torch.tensor([[0] * (longest - len(r.token_ids)) + list(r.token_ids) for r in batch], device=device)
        attention_mask = torch.tensor(
            [[0] * (longest - len(r.token_ids)) + [1] * len(r.token_ids) for r in batch], device=device
        )
        sampler = _Sampler(batch, self._sampling, device)
        config = GenerationConfig(
            max_new_tokens=max(request.max_new_tokens for request in batch),
            eos_token_id=list(self._stop_token_ids) or None,
            pad_token_id=0,
            do_sample=False,
            num_beams=1,
            use_cache=True,
        )
        # generate() fills what a config leaves unset from the model's own, for example a repetition penalty
        own_config, self._model.generation_config = self._model.generation_config, config
        try:
            self._model.generate(  # pyright: ignore[reportCallIssue] - generating_model() checked that it has one
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([sampler]),
                stopping_criteria=StoppingCriteriaList([_Budgets(batch, longest, device)]),
                synced_gpus=False,
            )
        finally:
            self._model.generation_config = own_config
        done = [(r.row, self._completion(r, ids, lps)) for r, ids, lps in zip(batch, *sampler.sampled(), strict=True)]
        self._statistics += EngineStatistics(
            prefill_tokens=input_ids.numel(),
            row_steps=len(batch) * max(len(completion.token_ids) for _, completion in done),
            sampled_tokens=sum(len(completion.token_ids) for _, completion in done),
        )
        return done

    def _completion(self, request: GenerationRequest, token_ids: list[int], logprobs: list[float]) -> Completion:
        budget = min(request.max_new_tokens, len(token_ids))
        stops = (i + 1 for i, token_id in enumerate(token_ids[:budget]) if token_id in self._stop_token_ids)
        length = next(stops, budget)
        return Completion(
            token_ids=tuple(token_ids[:length]),
            logprobs=tuple(logprobs[:length]),
            finish_reason="stop" if token_ids[length - 1] in self._stop_token_ids else "length",
            policy_version=self._version,
        )


class _Sampler(LogitsProcessor):
    """Draws the token by our sampler and leaves it as the only possible one."""

    def __init__(self, batch: list[GenerationRequest], sampling: SamplingParams, device: torch.device) -> None:
        self._sampling = sampling
        self._seeds = torch.tensor([as_int64(request.seed) for request in batch], device=device)
        self._positions = torch.tensor([len(request.token_ids) for request in batch], device=device)
        self._token_ids: list[torch.Tensor] = []
        self._logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        drawn = uniforms(self._seeds, self._positions + len(self._token_ids))
        token_ids, logprobs = sample_tokens(scores, self._sampling, drawn)
        self._token_ids.append(token_ids)
        self._logprobs.append(logprobs)
        return scores.fill_(float("-inf")).scatter_(1, token_ids[:, None], 0.0)  # pyright: ignore[reportReturnType]

    def sampled(self) -> tuple[list[list[int]], list[list[float]]]:
        """Return token ids and log-probabilities of every row, with whatever was drawn after its end."""
        return torch.stack(self._token_ids, 1).tolist(), torch.stack(self._logprobs, 1).tolist()


class _Budgets(StoppingCriteria):
    """Ends each row at its own number of tokens."""

    def __init__(self, batch: list[GenerationRequest], prompt_tokens: int, device: torch.device) -> None:
        self._ends = torch.tensor([prompt_tokens + request.max_new_tokens for request in batch], device=device)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: object) -> torch.BoolTensor:
        return self._ends <= input_ids.shape[1]  # pyright: ignore[reportReturnType]
