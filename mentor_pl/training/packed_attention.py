"""Attention over a packed batch: each sample sees its prompt, kept once for its whole group, and its own tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mentor_pl.causal_model import has_recurrent_state
from mentor_pl.engines.attention_interface import take_attend_keyword
from mentor_pl.training.batching import Segment
from mentor_pl.training.shared_prefix_attention import SharedPrefixAttention


def supports_packing(model: nn.Module) -> tuple[bool, str]:
    """Tell whether a model's attention can be packed, and why not.

    Sliding windows and attention that caps its scores or adds sinks mean something else than what is computed here. A recurrent
    state would run from one sample into the next.
    """
    config = cast(Any, model).config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        return False, f"its layers are {', '.join(sorted(layer_types))}"
    if has_recurrent_state(model):
        return False, "its layers carry a recurrent state"
    if getattr(config, "use_sliding_window", False) or (
        not hasattr(config, "use_sliding_window") and getattr(config, "sliding_window", None)
    ):
        return False, "it attends within a sliding window"
    if getattr(config, "attn_logit_softcapping", None):
        return False, "it caps attention scores"
    if not take_attend_keyword(model):
        return False, f"{type(_base(model)).__name__} does not take other attention functions"
    return True, ""


class PackedAttention:
    """Attends within the packed row; an `Attend`.

    Attributes:
        layers: Layers that have attended so.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.layers = 0
        self._segments = segments

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float,
        dropout: float,
        **_: Any,
    ) -> Tensor:
        """Attend: query [1, heads, T, D], key and value [1, key-value heads, T, D] -> [1, T, heads, D]."""
        self.layers += 1
        if query.device.type == "cpu" and dropout == 0.0:
            output = SharedPrefixAttention.apply(query, key, value, self._segments, scale)
            return cast(Tensor, output).transpose(1, 2)
        repeats = query.shape[1] // key.shape[1]
        if repeats > 1:
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        parts: list[Tensor] = []
        for segment in self._segments:
            start, stop = segment.prefix
            prefix = slice(start, stop)
            parts.append(
                F.scaled_dot_product_attention(
                    query[:, :, prefix],
                    key[:, :, prefix],
                    value[:, :, prefix],
                    is_causal=True,
                    scale=scale,
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
                        scale=scale,
                        dropout_p=dropout,
                    )
                )
        return torch.cat(parts, 2).transpose(1, 2)


def _visible(prefix: int, own: int, device: torch.device) -> Tensor:
    """True where a suffix token may look: all of the prefix, and its own tokens up to itself, [own, prefix + own]."""
    return torch.ones(own, prefix + own, dtype=torch.bool, device=device).tril(prefix)


def _base(model: nn.Module) -> nn.Module:
    get_base_model = getattr(model, "get_base_model", None)
    return get_base_model() if callable(get_base_model) else model  # type: ignore[return-value]
