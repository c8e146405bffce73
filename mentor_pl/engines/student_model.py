"""What in-process engines need of the student: the model that generates, and its eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from mentor_pl.adapters import is_adapter
from mentor_pl.errors import EngineError


def generating_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside a student; adapters that live in its layers stay active.

    Raises:
        EngineError: There is none, or its adapter works by virtual prompt tokens.
    """
    if is_adapter(model):
        if model.active_peft_config.is_prompt_learning:
            kind = model.active_peft_config.peft_type
            raise EngineError(
                f"the student's adapter is of type {kind}, which puts virtual tokens before the prompt; use LoRA"
            )
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel) or not model.can_generate():
        raise EngineError(
            f"the student is a {type(model).__name__}; an in-process engine needs a transformers causal language model"
        )
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode, and afterwards each back into the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
