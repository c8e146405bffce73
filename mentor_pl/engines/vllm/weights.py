"""The student's weights as folders that a vLLM server reads: the adapter alone, or the whole model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from mentor_pl.adapters import is_adapter
from mentor_pl.causal_model import model_state
from mentor_pl.errors import EngineError


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write what the trainer changes: an adapter in peft's format where there is one, else the whole model as safetensors.

    Args:
        model: With whole weights: gather a sharded one first.
        folder: Is made.

    Raises:
        EngineError: The student is of neither kind, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True)
        if is_adapter(model):
            # "auto" would ask the hub whether the vocabulary has grown.
            model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=model_state(model))
        elif isinstance(model, PreTrainedModel):
            model.save_pretrained(str(folder), state_dict=_with_head(model, model_state(model)))
        else:
            raise EngineError(
                f"the student is a {type(model).__name__}; VLLMEngine sends transformers models and peft adapters"
            )
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors lets only the writer read, and the server may run as another user
    except OSError as failure:
        raise EngineError(
            f"the weights cannot be written to {folder}: {failure}; set model.engine's `exchange_dir` to a folder with room that this "
            "machine and the servers share"
        ) from failure


def _with_head(model: PreTrainedModel, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give a head that is tied to the embeddings a tensor of its own, for servers of an untied copy; others ignore it."""
    head = model.get_output_embeddings()
    tied = [name for name, tensor in state.items() if head is not None and tensor is head.weight]
    for name in tied[1:]:
        state[name] = state[name].clone()
    return state
