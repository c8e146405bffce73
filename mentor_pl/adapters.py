"""Tells adapters and 4-bit layers by their classes, without importing the packages that make them.

peft and bitsandbytes take seconds to import, and bitsandbytes loads a native library. Where neither
is imported, no module of the student can be one of theirs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import nn

if TYPE_CHECKING:
    from bitsandbytes.nn.modules import Linear4bit
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer


def is_adapter(model: nn.Module) -> TypeGuard[PeftModel]:
    """True where a model is a `peft.PeftModel` around another one."""
    return _is_a(model, "peft", "PeftModel")


def is_lora_layer(module: nn.Module | None) -> TypeGuard[LoraLayer]:
    """True where a module is a layer with a LoRA adapter on it."""
    return _is_a(module, "peft.tuners.lora", "LoraLayer")


def is_four_bit(module: nn.Module) -> TypeGuard[Linear4bit]:
    """True where a module is a linear layer whose weights are held in 4 bits."""
    return _is_a(module, "bitsandbytes.nn.modules", "Linear4bit")


def _is_a(instance: Any, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(instance, getattr(loaded, name))
