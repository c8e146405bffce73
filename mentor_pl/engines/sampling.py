"""Exact sampling from logits, and random numbers that depend only on a seed and a position."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mentor_pl.engines.base import SamplingParams

_BLOCK = 256
"""Tokens per block of the two-level search: about the square root of a large vocabulary."""

_TOP_CANDIDATES = 1024
"""Tokens in which the nucleus is looked for before the whole vocabulary is sorted."""


def sample_tokens(
    logits: torch.Tensor, sampling: SamplingParams, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token per row by inverting its cumulative distribution.

    A uniform number picks the first token at which the cumulative probability exceeds it, so that
    equal logits and numbers give equal tokens. The search runs over blocks and then within one
    block; no cumulative sum over the vocabulary is formed.

    Args:
        logits: The model's own, `[B, V]`, in any floating type.
        sampling: Temperature and filters. Greedy decoding ignores the filters.
        uniforms: Numbers in [0, 1), `[B]`, float64; ignored by greedy decoding.

    Returns:
        `(token_ids, logprobs)`, each `[B]` (int64 and float32): log-probabilities under the
        distribution sampled from, filters included; for greedy decoding under the model's own.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        token_ids = logits.argmax(-1)
        return token_ids, logits.gather(1, token_ids[:, None])[:, 0] - logits.logsumexp(-1)
    probs = torch.softmax(logits / sampling.temperature if sampling.temperature != 1 else logits, -1)
    threshold = _smallest_kept(probs, sampling)
    if threshold is not None:
        probs = probs.masked_fill_(probs < threshold[:, None], 0.0)

    rows, vocab_size = probs.shape
    if vocab_size % _BLOCK:  # even an empty padding would copy
        probs = F.pad(probs, (0, -vocab_size % _BLOCK))
    blocks = probs.view(rows, -1, _BLOCK)
    # float64: in float32 the sums over a large vocabulary would bias its rare tokens
    mass = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = uniforms.to(mass)[:, None] * mass[:, -1:]
    block = torch.searchsorted(mass, target, right=True)
    inside = blocks[torch.arange(rows, device=probs.device), block[:, 0]].double().cumsum(-1)
    target = target - mass.gather(1, (block - 1).clamp_(min=0)).masked_fill_(block == 0, 0.0)
    # the block's sum and its cumulative sum may differ in the last bit; beyond the end lies no token
    target = target.clamp_(min=0.0).minimum(inside[:, -1:] * (1 - 2.0**-53))
    token_ids = block * _BLOCK + torch.searchsorted(inside, target, right=True)
    logprobs = probs.gather(1, token_ids).double().div_(mass[:, -1:]).log_()
    return token_ids[:, 0], logprobs[:, 0].float()


def _smallest_kept(probs: torch.Tensor, sampling: SamplingParams) -> torch.Tensor | None:
    """Return the probability below which tokens are dropped, `[B]`; None where all are kept.

    The filters apply one after the other: top-k, top-p on what it left, min-p. Tokens as likely as
    the last one kept are kept too, so that the kept set does not depend on how a sort breaks ties.
    """
    vocab_size = probs.shape[-1]
    thresholds: list[torch.Tensor] = []
    if 0 < sampling.top_k < vocab_size:
        ordered = probs.topk(sampling.top_k).values
        thresholds.append(ordered[:, -1])
        total = ordered.sum(-1, keepdim=True, dtype=torch.float64)
    elif sampling.top_p < 1:
        ordered = probs.topk(min(_TOP_CANDIDATES, vocab_size)).values
        total = torch.ones_like(ordered[:, :1], dtype=torch.float64)
        if ordered.sum(-1).min() <= sampling.top_p:
            ordered = probs.sort(descending=True).values
    else:
        ordered, total = probs.amax(-1, keepdim=True), None
    if sampling.top_p < 1 and total is not None:
        likelier = ordered.double().cumsum(-1) - ordered
        last_kept = (likelier < sampling.top_p * total).sum(-1, keepdim=True) - 1
        thresholds.append(ordered.gather(1, last_kept)[:, 0])
    if sampling.min_p > 0:
        thresholds.append(ordered[:, 0] * sampling.min_p)
    return torch.stack(thresholds).amax(0) if thresholds else None


def uniforms(seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return the random number of each row: a hash of its seed and of the token's position in the conversation.

    Counter-based, so that what one row draws depends neither on which other rows are live nor on
    the device. SplitMix64 (Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195)
    finalises the seed, then the seed plus `position` golden-gamma steps.

    Args:
        seeds: `[B]`, int64; see `as_int64` for larger Python ints.
        positions: Index of the token to be sampled in its conversation, `[B]`, int64.

    Returns:
        Numbers in [0, 1) with 53 random bits, `[B]`, float64.
    """
    bits = _mix(_mix(seeds) + positions * as_int64(0x9E3779B97F4A7C15))
    return _shift_right(bits, 11).double() * 2.0**-53


def as_int64(value: int) -> int:
    """Wrap any int to the signed 64-bit int with the same low bits."""
    return ((value + 2**63) % 2**64) - 2**63


def _mix(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * as_int64(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shift_right(bits, 27)) * as_int64(0x94D049BB133111EB)
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: torch.Tensor, by: int) -> torch.Tensor:
    """Shift in zeros; `>>` on int64 repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
