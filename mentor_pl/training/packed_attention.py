"""Attention over a packed batch: each sample sees its prompt, kept once for its whole group, and its own tokens before it.

Registered with transformers' attention interface, so the model's own code (norms, rotary embedding, adapters, quantised layers)
stays as it is. A forward outside `packed_attention` is untouched.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from mentor_pl.training.batching import Segment
from mentor_pl.training.shared_prefix_attention import SharedPrefixAttention

_NAME = "mentor_packed"
_SEGMENTS = "_mentor_segments"


def supports_packing(model: nn.Module) -> tuple[bool, str]:
    """Tell whether a model's attention can be packed, and why not.

    Sliding windows and attention that caps its scores or adds sinks mean something else than what is computed here.
    """
    config = cast(Any, model).config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        return False, f"its layers are {', '.join(sorted(layer_types))}"
    if getattr(config, "use_sliding_window", False) or (
        not hasattr(config, "use_sliding_window") and getattr(config, "sliding_window", None)
    ):
        return False, "it attends within a sliding window"
    if getattr(config, "attn_logit_softcapping", None):
        return False, "it caps attention scores"
    if not getattr(type(_base(model)), "_supports_attention_backend", False):
        return False, f"{type(_base(model)).__name__} does not take other attention functions"
    return True, ""


@contextmanager
def packed_attention(model: nn.Module, segments: Sequence[Segment]) -> Iterator[None]:
    """Make the model attend within `segments` only; also where gradient checkpointing runs layers again in the backward pass."""
    layers: list[Any] = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    plain = [layer._gradient_checkpointing_func for layer in layers]
    for layer, checkpoint in zip(layers, plain, strict=True):
        layer._gradient_checkpointing_func = functools.partial(
            checkpoint, context_fn=lambda: (nullcontext(), _attending(model, segments))
        )
    try:
        with _attending(model, segments):
            yield
    finally:
        for layer, checkpoint in zip(layers, plain, strict=True):
            layer._gradient_checkpointing_func = checkpoint


@contextmanager
def _attending(model: nn.Module, segments: Sequence[Segment]) -> Iterator[None]:
    config = cast(Any, model).config.get_text_config()
    before = config._attn_implementation
    # Kept with the config, which every layer has at hand: on a GPU the backward pass runs in another thread.
    setattr(config, _SEGMENTS, segments)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        delattr(config, _SEGMENTS)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within the packed row: query [1, heads, T, D], key and value [1, key-value heads, T, D] -> [1, T, heads, D]."""
    segments = cast(Sequence[Segment], getattr(module.config, _SEGMENTS))
    if query.device.type == "cpu" and dropout == 0.0:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return cast(Tensor, SharedPrefixAttention.apply(query, key, value, segments, scale)).transpose(1, 2), None
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    parts: list[Tensor] = []
    for segment in segments:
        start, stop = segment.prefix
        prefix = slice(start, stop)
        parts.append(
            F.scaled_dot_product_attention(
                query[:, :, prefix],
                key[:, :, prefix],
                value[:, :, prefix],
                is_causal=True,
                scale=scaling,
                dropout_p=dropout,
            )
        )
        for first, last in segment.suffixes:
            own = slice(first, last)
            parts.append(
                F.scaled_dot_product_attention(
                    query[:, :, own],
                    torch.cat([key[:, :, prefix], key[:, :, own]], 2),
                    torch.cat([value[:, :, prefix], value[:, :, own]], 2),
                    attn_mask=_visible(stop - start, last - first, query.device),
                    scale=scaling,
                    dropout_p=dropout,
                )
            )
    return torch.cat(parts, 2).transpose(1, 2), None


def _visible(prefix: int, own: int, device: torch.device) -> Tensor:
    """True where a suffix token may look: all of the prefix, and its own tokens up to itself, [own, prefix + own]."""
    return torch.ones(own, prefix + own, dtype=torch.bool, device=device).tril(prefix)


def _base(model: nn.Module) -> nn.Module:
    get_base_model = getattr(model, "get_base_model", None)
    return get_base_model() if callable(get_base_model) else model  # type: ignore[return-value]


AttentionInterface.register(_NAME, _attend)
