"""Log-probabilities of trained tokens, without ever holding logits for more than a chunk of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


class _ChunkedLogprobs(torch.autograd.Function):
    """Hidden states to (log-probability, entropy) of given targets; logits are made twice, chunk by chunk, and never kept."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        entropies = torch.empty_like(logprobs)
        normalizers = torch.empty_like(logprobs)
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            logits = (hidden[part].to(weight.dtype) @ weight.t()).float() / temperature
            normalizers[part] = logits.logsumexp(-1)
            logprobs[part] = logits.gather(-1, targets[part, None])[:, 0] - normalizers[part]
            # H = log Z - E[logit]
            probabilities = (logits - normalizers[part, None]).exp()
            entropies[part] = normalizers[part] - (probabilities * logits).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, normalizers)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad_logprobs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, targets, normalizers = ctx.saved_tensors
        grad_hidden = torch.zeros_like(hidden)
        # Summed in fp32: many small bf16 additions would be lost.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(targets), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            states = hidden[part].to(weight.dtype)
            logits = (states @ weight.t()).float() / ctx.temperature
            grad = -(logits - normalizers[part, None]).exp()
            grad.scatter_add_(-1, targets[part, None], torch.ones_like(targets[part, None], dtype=grad.dtype))
            grad *= grad_logprobs[part, None] / ctx.temperature
            grad = grad.to(weight.dtype)
            grad_hidden[part] = (grad @ weight).to(hidden.dtype)
            if grad_weight is not None:
                grad_weight += (grad.t() @ states).float()
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None


@contextmanager
def _scoring_head(
    model: nn.Module, positions: Tensor, targets: Tensor, temperature: float, chunk: int
) -> Iterator[None]:
    """Let the model's output head give [N + 1, 2] (log-probability, entropy) instead of logits; the last row is a probe of ones.

    Inside the model's own forward, the head's weights are at hand under every wrapper (PEFT, DDP, FSDP).
    """
    head = cast(nn.Module, model.get_output_embeddings())  # type: ignore[operator]

    def score(hidden: Tensor) -> Tensor:
        states = hidden.flatten(0, -2)[positions]
        weight = cast(Tensor, head.weight)
        scores = torch.stack(_ChunkedLogprobs.apply(states, weight, targets, temperature, chunk), dim=-1)  # type: ignore[arg-type]
        return torch.cat([scores, scores.new_ones(1, 2)])

    head.forward = score
    try:
        yield
    finally:
        del head.forward


_whole_logits: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Models of which it is known whether logits are more than hidden states times weights: Gemma 2 caps them, Cohere and Granite scale
them, Phi adds a bias, an adapter may sit on the head. Theirs are taken whole, as they come."""


def token_logprobs(
    model: nn.Module,
    *,
    input_ids: Tensor,
    position_ids: Tensor,
    attention_mask: Tensor | None,
    target_positions: Tensor,
    target_ids: Tensor,
    temperature: float = 1.0,
    chunk_tokens: int = 1024,
) -> tuple[Tensor, Tensor]:
    """Score N tokens under the model.

    Args:
        model: A causal language model of transformers, perhaps wrapped by PEFT.
        input_ids: [B, T].
        position_ids: [B, T].
        attention_mask: True at real tokens, [B, T]; None where all are or the attention function knows better.
        target_positions: Index into [B * T] of the position that predicts each token, [N].
        target_ids: [N].
        temperature: The one that the tokens were sampled at.
        chunk_tokens: Tokens whose logits are held at once.

    Returns:
        Log-probabilities [N] with gradient, and entropies [N] without, both fp32.
    """
    inputs = {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "attention_mask": attention_mask,
        "use_cache": False,
    }
    head = cast(Any, model).get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:  # an adapter or a quantised head computes in its own way
        _whole_logits[model] = True
    if not _whole_logits.get(model):
        with _scoring_head(model, target_positions, target_ids, temperature, chunk_tokens):
            scores = model(**inputs).logits
        if model not in _whole_logits:  # what the model does to the probe, it would do to logits
            _whole_logits[model] = bool((scores[-1] != 1).any())
        if not _whole_logits[model]:
            return scores[:-1, 0], scores[:-1, 1].detach()
    logits = model(**inputs).logits.flatten(0, 1)[target_positions].float() / temperature
    table = logits.log_softmax(-1)
    return table.gather(-1, target_ids[:, None])[:, 0], -(table.exp() * table).sum(-1).detach()
