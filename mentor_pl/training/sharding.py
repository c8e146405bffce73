"""Weights that are spread over ranks (FSDP2), brought together for a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.fsdp import FSDPModule


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Keep every sharded layer whole meanwhile, so that ranks may generate without waiting for each other.

    All ranks must enter and leave together. Without sharded layers nothing happens.
    """
    layers = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for layer in layers:
        layer.unshard()
        layer.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for index, layer in enumerate(layers):
            layer.reshard()
            layer.set_reshard_after_forward(index > 0, recurse=False)  # the root stays whole until its backward pass
