"""Attention in parts: over a shared prefix and over a row's own tokens, put together by their log-sum-exps."""

from __future__ import annotations

import torch

# the only operators of torch that give an attention's log-sum-exp; tests/unit/test_private_names.py watches them
flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_efficient = torch.ops.aten._scaled_dot_product_efficient_attention  # on CUDA


def partial_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to one part of the context.

    Args:
        query: `[B, Hkv, N, D]`: the N queries (of several heads, rows or positions) that share a
            key head.
        key: `[B, Hkv, S, D]`.
        value: `[B, Hkv, S, D]`.
        mask: Added to the scores, broadcastable to `[B, 1, N, S]`, in the query's type; see
            `additive_mask`.
        scale: Multiplies the scores.
        softcap: `c` of `c * tanh(score / c)` (Gemma 2, arXiv:2408.00118, section 2), before the
            mask.

    Returns:
        The attention output `[B, Hkv, N, D]` and the log-sum-exp of the scores `[B, Hkv, N]`,
        float32.
    """
    if query.device.type == "cpu" and softcap is None:
        return flash(query, key, value, attn_mask=mask, scale=scale)
    if _is_efficient(query, value) and softcap is None:
        bias = None if mask is None else mask.expand(*query.shape[:3], key.shape[2])
        output, lse, *_ = _efficient(query, key, value, bias, compute_log_sumexp=True, scale=scale)
        return output, lse[..., : query.shape[2]]  # which comes padded
    # scores rounded to bfloat16, by their type or by autocast, would be off by up to a tenth of a nat
    with torch.autocast(query.device.type, enabled=False):
        scores = (query.float() @ key.float().transpose(-1, -2)).mul_(scale)
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    if mask is not None:
        scores = scores.add_(mask)
    lse = scores.logsumexp(-1)
    return scores.sub_(lse[..., None]).exp_().to(value.dtype) @ value, lse


def _is_efficient(query: torch.Tensor, value: torch.Tensor) -> bool:
    # it reads numbers by eights, as `additive_mask` lays them out; AMD's was not tried
    by_eights = query.shape[-1] % 8 == value.shape[-1] % 8 == 0
    return query.device.type == "cuda" and torch.version.hip is None and by_eights


def merge_attention(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Put two parts of one softmax together: each weighs as its share of the total exponential mass.

    Args:
        first: Output `[..., D]` and log-sum-exp `[...]` over one part of the context.
        second: The same over the rest.

    Returns:
        The attention output over both, `[..., D]`.
    """
    weight = torch.sigmoid(first[1] - second[1]).unsqueeze(-1)
    return torch.lerp(second[0].float(), first[0].float(), weight).to(first[0].dtype)


def weigh_against_sinks(output: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """Let one more score per head take part in a softmax that is already summed up (gpt-oss); it brings no value.

    Args:
        output: Attention over all keys, `[..., D]`.
        lse: Log-sum-exp of the scores, `[...]`.
        sinks: The further score, broadcastable to `lse`.

    Returns:
        The attention output, `[..., D]`: scaled by the share of the exponential mass that the keys
        have.
    """
    return output * torch.sigmoid(lse - sinks.float()).to(output.dtype).unsqueeze(-1)


def additive_mask(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a mask for `partial_attention` from one that is True where a key must not be seen.

    The value is finite, so that a query that sees none of a part gets a weight of zero for it
    instead of NaN.
    """
    *shape, size = hidden.shape
    padded = size + -size % 8 if hidden.is_cuda else size  # see `_is_efficient`
    mask = torch.zeros(*shape, padded, dtype=dtype, device=hidden.device)[..., :size]
    return mask.masked_fill_(hidden, torch.finfo(dtype).min / 2)


def hidden_keys(query_positions: torch.Tensor, key_positions: torch.Tensor, window: int | None) -> torch.Tensor:
    """Return True where a query must not see a key: later ones, and those `window` or more tokens ago.

    Args:
        query_positions: `[..., N]`, int64.
        key_positions: `[..., S]`, int64.
        window: Tokens seen at most, the query's own included; None for all.

    Returns:
        `[..., N, S]`, bool.
    """
    distance = query_positions[..., :, None] - key_positions[..., None, :]
    return distance < 0 if window is None else (distance < 0) | (distance >= window)
