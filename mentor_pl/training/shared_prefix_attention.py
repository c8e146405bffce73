"""Attention of a packed batch on a CPU: the suffixes of a prompt look at it together, and each at itself.

Written out with its gradient, because a softmax that is computed in two parts, over the prompt and
over the own tokens, needs both outputs and both log-sum-exps, which `scaled_dot_product_attention`
does not give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mentor_pl.engines.cascade.partial_attention import flash, flash_backward, merge_attention
from mentor_pl.training.batching import Segment


class SharedPrefixAttention(torch.autograd.Function):
    """Softmax attention in which a suffix sees all of its prefix and its own tokens up to itself.

    Computes in float32 whatever it is given: bfloat16 is no faster here, and its backward pass over
        short suffixes twice as slow.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scale: float
    ) -> Tensor:
        """Attend: query [1, heads, T, D], key and value [1, key-value heads, T, D] -> [1, heads, T, D]."""
        q, k, v = _float(query, key, value)
        # Laid out as the projections before and after attention have it: [1, T, heads, D].
        output = torch.empty_like(q.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        lse = q.new_empty(q.shape[:3])
        for queries, keys, causal, again in _parts(segments):
            part, part_lse = flash(q[:, :, queries], k[:, :, keys], v[:, :, keys], is_causal=causal, scale=scale)
            if again:  # the second part of its queries' softmax
                output[:, :, queries] = merge_attention((part, part_lse), (output[:, :, queries], lse[:, :, queries]))
                part_lse = torch.logaddexp(part_lse, lse[:, :, queries])
            else:
                output[:, :, queries] = part
            lse[:, :, queries] = part_lse
        output = output.to(query.dtype)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.segments, ctx.scale = segments, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """With the whole softmax's output and log-sum-exp, each part's gradients are those of the whole, to be summed."""
        query, key, value, output, lse = ctx.saved_tensors
        q, k, v = _float(query, key, value)
        grad_output, output = grad_output.float(), output.float()
        grads = [torch.zeros_like(tensor) for tensor in (q, k, v)]
        for queries, keys, causal, _ in _parts(ctx.segments):
            parts = flash_backward(
                grad_output[:, :, queries],
                q[:, :, queries],
                k[:, :, keys],
                v[:, :, keys],
                output[:, :, queries],
                lse[:, :, queries],
                0.0,
                causal,
                scale=ctx.scale,
            )
            for grad, part, where in zip(grads, parts, (queries, keys, keys), strict=True):
                grad[:, :, where] += part
        shape = (1, key.shape[1], -1, *key.shape[2:])
        grad_key, grad_value = (grad.view(shape).sum(2) for grad in grads[1:])
        return grads[0].to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype), None, None


def _float(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return float32 tensors with as many key-value heads as heads."""
    repeats = query.shape[1] // key.shape[1]
    return query.float(), key.float().repeat_interleave(repeats, 1), value.float().repeat_interleave(repeats, 1)


def _parts(segments: Sequence[Segment]) -> Iterator[tuple[slice, slice, bool, bool]]:
    """Say who looks at whom: queries, keys, whether causally, and whether these queries have looked at other keys before."""
    for segment in segments:
        prefix = slice(*segment.prefix)
        yield prefix, prefix, True, False
        if segment.suffixes:
            yield slice(segment.suffixes[0][0], segment.suffixes[-1][1]), prefix, False, False
        for first, last in segment.suffixes:
            if first < last:
                yield slice(first, last), slice(first, last), True, True
