"""Attention over a packed batch: each sample sees its prompt, kept once for its whole group, and its own tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mentor_pl.causal_model import has_recurrent_state
from mentor_pl.engines.attention_interface import hands_keywords_down, take_attend_keyword, transformers_model
from mentor_pl.training.batching import Segment
from mentor_pl.training.shared_prefix_attention import SharedPrefixAttention

_LAYER_TYPES = {"full_attention", "sliding_attention"}


def supports_packing(model: nn.Module) -> tuple[bool, str]:
    """Tell whether a model's attention can be packed, and why not.

    A recurrent state would run from one sample into the next.
    """
    config = cast(Any, model).config.get_text_config()
    others = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if has_recurrent_state(model):
        kinds = f" ({', '.join(sorted(others))})" if others else ""
        return False, f"its layers carry a recurrent state from token to token{kinds}"
    if others:
        return False, f"its layers are {', '.join(sorted(others))}"
    if getattr(config, "use_bidirectional_attention", False):
        return False, "its attention is bidirectional"
    if not hands_keywords_down(model) or not take_attend_keyword(model):
        return False, f"{transformers_model(model).__name__} does not take other attention functions"
    return True, ""


class PackedAttention:
    """Attends within the packed row; an `Attend`.

    Attributes:
        layers: Layers that have attended so.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.layers = 0
        self._segments = segments
        self._longest = max(
            segment.prefix[1] - segment.prefix[0] + max((last - first for first, last in segment.suffixes), default=0)
            for segment in segments
        )

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float,
        dropout: float,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """Attend: query [1, heads, T, D], key and value [1, key-value heads, T, D] -> [1, T, heads, D]."""
        self.layers += 1
        if window is not None and self._longest <= window:
            window = None
        plain = window is None and softcap is None and sinks is None and dropout == 0.0
        if plain and query.device.type == "cpu" and value.shape[-1] == query.shape[-1]:
            output = SharedPrefixAttention.apply(query, key, value, self._segments, scale)
            return cast(Tensor, output).transpose(1, 2)
        repeats = query.shape[1] // key.shape[1]
        if repeats > 1:
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)

        def attend(queries: slice, keys: Sequence[slice], before: int) -> Tensor:
            """Let queries look at keys; so many of these come before the first query."""
            mask = _visible(before, queries.stop - queries.start, window, query.device)
            q = query[:, :, queries]
            k, v = (torch.cat([tensor[:, :, part] for part in keys], 2) for tensor in (key, value))
            if softcap is not None or sinks is not None:
                return _softmax_attention(q, k, v, mask, scale, dropout, softcap, sinks)
            causal = before == 0 and window is None  # the kernels that need no mask are faster
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=None if causal else mask, is_causal=causal, scale=scale, dropout_p=dropout
            )

        parts: list[Tensor] = []
        for segment in self._segments:
            prefix = slice(*segment.prefix)
            parts.append(attend(prefix, [prefix], 0))
            for first, last in segment.suffixes:
                own = slice(first, last)
                parts.append(attend(own, [prefix, own], prefix.stop - prefix.start))
        return torch.cat(parts, 2).transpose(1, 2)


def _visible(before: int, own: int, window: int | None, device: torch.device) -> Tensor:
    """True where a token may look: what comes before, and its own tokens up to itself, [own, before + own]."""
    visible = torch.ones(own, before + own, dtype=torch.bool, device=device).tril(before)
    return visible if window is None else visible.triu(before - window + 1)


def _softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scale: float,
    dropout: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attend with scores capped (Gemma 2, arXiv:2408.00118, section 2) or with one more score per head (gpt-oss)."""
    scores = (query @ key.transpose(-1, -2)).float() * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)], -1)
    weights = scores.softmax(-1)[..., : key.shape[2]].to(value.dtype)
    return F.dropout(weights, dropout) @ value
