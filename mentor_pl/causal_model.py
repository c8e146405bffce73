"""What several floors ask of a causal language model of transformers: its weights by name, its context, its state."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import DynamicCache

_NO_LIMIT_TOKENS = 1_000_000
"""Context of a model whose config names none, as those without positions."""


def model_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and persistent buffers by name.

    Unlike `state_dict()`, this leaves FSDP2 modules that were gathered as they are.
    """
    buffers = {
        f"{path}.{name}" if path else name: buffer
        for path, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        # torch has no public way to ask; tests/unit/test_private_names.py watches it
        if name not in module._non_persistent_buffers_set
    }
    return {**dict(model.named_parameters(remove_duplicate=False)), **buffers}


def max_context(model: nn.Module) -> int:
    """Return the longest sequence in tokens that the model's positions allow."""
    config = cast(Any, model).config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or _NO_LIMIT_TOKENS)


def vocab_size(model: nn.Module) -> int:
    """Return how many tokens the model has embeddings for; often a few more than its tokenizer knows."""
    return int(cast(Any, model).config.get_text_config().vocab_size)


def has_recurrent_state(model: nn.Module) -> bool:
    """Tell whether layers carry a state from token to token beside keys and values: convolutions, Mamba, linear attention."""
    config = cast(Any, model).config.get_text_config()
    return any(hasattr(layer, "conv_states") for layer in DynamicCache(config=config).layers)
