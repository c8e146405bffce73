"""A keyword of a transformers model's forward that takes its attention over: `model(..., attend=function)`.

transformers hands unknown keywords of a forward down to the attention function, in the forward pass
and where gradient checkpointing runs layers again. So a caller says with each forward how tokens
see one another, and the model's own code (norms, rotary embedding, experts, adapters, quantised
layers) stays as it is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mentor_pl.errors import EngineError

KEYWORD = "attend"


class Attend(Protocol):
    """Attends for a layer of the model."""

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
        """Attend.

        Args:
            module: The attention layer; `layer_idx` is its place in the model.
            query: With rotary embedding, `[B, heads, T, D]`.
            key: `[B, key-value heads, T, D]`.
            value: `[B, key-value heads, T, D of values]`.
            scale: Multiplies the scores.
            dropout: Of attention weights; 0 in eval mode.
            window: Tokens that a token sees at most, itself included; None for all.
            softcap: `c` of `c * tanh(score / c)`; None for none.
            sinks: One more score per head that takes part in the softmax and has no value,
                `[heads]`; None for none.

        Returns:
            `[B, T, heads, D of values]`.
        """
        ...


_names: dict[str, str] = {}
"""The name under which an attention implementation with our keyword is registered, by the name of the implementation."""


def transformers_model(model: nn.Module) -> type[PreTrainedModel]:
    """Return the class of the transformers model inside a student, whatever wraps it."""
    return next(type(module) for module in model.modules() if isinstance(module, PreTrainedModel))


def hands_keywords_down(model: nn.Module) -> bool:
    """Tell whether a model says of itself that its forward hands unknown keywords to its attention function.

    Some that do, do not say so; whether they do shows when one is called.
    """
    return bool(getattr(transformers_model(model), "_supports_attention_backend", False))


def own_attention(model: nn.Module) -> str:
    """Return the attention implementation that a model uses where nobody passes `attend`."""
    present = cast(Any, model).config.get_text_config()._attn_implementation
    return next((own for own, name in _names.items() if name == present), present)


def take_attend_keyword(model: nn.Module) -> bool:
    """Let a model's forward take `attend`; without it the model attends as before. Costs nothing the second time.

    Args:
        model: A transformers model, or a wrapper (PEFT, FSDP) around one.

    Returns:
        Whether its class lets the attention function be chosen. Whether it also hands keywords down
        shows when it is called.
    """
    config = cast(Any, model).config.get_text_config()
    if config._attn_implementation in _names.values():
        return True
    own = config._attn_implementation
    if own not in _names:
        # a name without "flash" in it: transformers would look for a kernel
        name = f"mentor_attend_{len(_names)}"
        AttentionInterface.register(name, functools.partial(_attention, own))
        if own in ALL_MASK_ATTENTION_FUNCTIONS:
            AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[own])
        _names[own] = name
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation(_names[own])
            break
    return config._attn_implementation == _names[own]


def no_mask(like: Tensor) -> Tensor:
    """Return an attention mask that transformers takes as it is instead of making one; `attend` knows who sees whom."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=like.device)


def _attention(
    own: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    attend: Attend | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    if attend is None:
        function = _eager(module) if own == "eager" else ALL_ATTENTION_FUNCTIONS[own]
        return function(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options)
    output = attend(
        module,
        query,
        key,
        value,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        dropout=dropout,
        window=options.get("sliding_window"),
        softcap=options.get("softcap"),
        sinks=options.get("s_aux"),
    )
    return output, None


def _eager(module: nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """Return the eager attention of a layer, which transformers registers nowhere: each model's file has its own."""
    for kind in type(module).__mro__:
        function = getattr(sys.modules[kind.__module__], "eager_attention_forward", None)
        if function is not None:
            return function
    raise EngineError(
        f"{type(module).__qualname__} attends eagerly, but {type(module).__module__} has no eager_attention_forward to call; "
        "set model.student's `attn_implementation` to sdpa"
    )
