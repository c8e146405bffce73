"""Log-probabilities of trained tokens, without ever holding logits for more than a chunk of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_BLOCK_LOGITS = 2**18
"""Logits worked on at once on a CPU: what fits in its cache. A chunk is made by one matrix product but read block by block."""


class _ChunkedLogprobs(torch.autograd.Function):
    """Hidden states to (log-probability, entropy) of given targets, chunk by chunk of logits.

    The last chunk's logits are kept for the backward pass, which needs them first and would have to hold them anyway; those of the
    chunks before it are made again.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        device_type = hidden.device.type
        # The backward pass runs outside of autocast, and is to compute in the same type.
        dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else weight.dtype
        states, head = hidden.to(dtype), weight.to(dtype)
        logprobs = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        entropies = torch.empty_like(logprobs)
        normalizers = torch.empty_like(logprobs)
        logits = None
        for start in range(0, len(targets), chunk):
            logits = None  # frees the chunk before
            logits = states[start : start + chunk] @ head.t()
            for rows in _blocks(logits):
                here = slice(start + rows.start, start + rows.stop)
                block = logits[rows].float() / temperature
                peak = block.amax(-1)
                masses = (block - peak[:, None]).exp_()
                total = masses.sum(-1)
                normalizers[here] = total.log() + peak
                logprobs[here] = block.gather(-1, targets[here, None])[:, 0] - normalizers[here]
                # H = log Z - E[logit]
                entropies[here] = normalizers[here] - masses.mul_(block).sum(-1) / total
        ctx.save_for_backward(states, head, targets, normalizers)
        ctx.temperature, ctx.chunk, ctx.last_logits = temperature, chunk, logits
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        states, head, targets, normalizers = ctx.saved_tensors
        logits, ctx.last_logits = ctx.last_logits, None
        scale = grad_logprobs / ctx.temperature
        grad_states = torch.empty_like(states)
        grad_head = None
        for start in reversed(range(0, len(targets), ctx.chunk)):
            part = slice(start, start + ctx.chunk)
            if logits is None:
                logits = states[part] @ head.t()
            for rows in _blocks(logits):
                here = slice(start + rows.start, start + rows.stop)
                block = (logits[rows].float() / ctx.temperature).sub_(normalizers[here, None]).exp_()
                block.mul_(-scale[here, None]).scatter_add_(-1, targets[here, None], scale[here, None])
                logits[rows] = block  # from here on the gradient of the logits
            grad_states[part] = logits @ head
            if ctx.needs_input_grad[1]:
                product = logits.t() @ states[part]
                # Summed in fp32: many small bf16 additions would be lost.
                grad_head = product.float() if grad_head is None else grad_head.add_(product)
            logits = None
        if ctx.needs_input_grad[1]:
            grad_head = torch.zeros_like(head) if grad_head is None else grad_head
        of_hidden, of_weight = ctx.dtypes
        return grad_states.to(of_hidden), None if grad_head is None else grad_head.to(of_weight), None, None, None


def _blocks(logits: Tensor) -> list[slice]:
    """Cut the rows of a chunk into blocks that stay in a CPU's cache; any other device takes them all at once."""
    rows, vocabulary = logits.shape
    count = max(1, _BLOCK_LOGITS // vocabulary) if logits.device.type == "cpu" else rows
    return [slice(first, min(first + count, rows)) for first in range(0, rows, count)]


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
