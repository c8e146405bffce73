"""Recurrent states (convolutions, Mamba, gated delta rules) of many sequences, one slot each, and transformers' cache over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig

_KINDS = ("conv_states", "recurrent_states")


class RowCache(DynamicCache):
    """The cache that a model's forward is given: it holds the states of the rows at hand, and neither keys nor values.

    Keys and values are kept by the attention function, which is handed those of the new tokens
    alone.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config=config)
        self.stateful: list[Any] = [layer for layer in self.layers if hasattr(layer, "conv_states")]

    def update(  # type: ignore[override]
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is given."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: positions are always given."""
        return 0

    def tensors(self) -> list[torch.Tensor]:
        """Return the states `[rows, ...]`, layer by layer; they exist after the first forward."""
        return [tensor for layer, kind, index in self._places() if (tensor := getattr(layer, kind)[index]) is not None]

    def bind(self, tensors: Sequence[torch.Tensor]) -> None:
        """Go on with other rows' states, which the forward changes in place."""
        pending = iter(tensors)
        for layer, kind, index in self._places():
            if getattr(layer, kind)[index] is not None:
                getattr(layer, kind)[index] = next(pending)

    def _places(self) -> list[tuple[Any, str, int]]:
        return [
            (layer, kind, index)
            for layer in self.stateful
            for kind in _KINDS
            for index in range(layer.number_of_states)
        ]


class RecurrentStates:
    """States of many sequences, `[slots, ...]` for each layer; zero is the state before the first token."""

    def __init__(self, cache: RowCache) -> None:
        """Start empty.

        Args:
            cache: Has been through a forward, and so knows the shapes.
        """
        self._cache = cache
        self._tensors = [tensor.new_zeros(0, *tensor.shape[1:]) for tensor in cache.tensors()]

    def reserve(self, slots: int) -> None:
        """Make room for at least so many slots."""
        for index, old in enumerate(self._tensors):
            if len(old) < slots:
                grown = old.new_zeros(slots, *old.shape[1:])
                grown[: len(old)] = old
                self._tensors[index] = grown

    def clear(self, slots: Sequence[int]) -> None:
        """Start sequences anew."""
        for tensor in self._tensors:
            tensor[list(slots)] = 0

    def take(self, source: RecurrentStates, moves: Sequence[tuple[int, int]]) -> None:
        """Copy slots of another store, or of this one, all at once: (from, to)."""
        origins, targets = [origin for origin, _ in moves], [target for _, target in moves]
        for tensor, other in zip(self._tensors, source._tensors, strict=True):
            tensor[targets] = other[origins]

    def load(self, slots: slice | torch.Tensor) -> RowCache:
        """Return the cache of some slots for one forward; those of a slice are changed in place, others by `save`."""
        self._cache.bind([tensor[slots] for tensor in self._tensors])
        return self._cache

    def save(self, slots: slice | torch.Tensor) -> None:
        """Keep what the forward has made of the states."""
        if isinstance(slots, slice):
            return
        for tensor, new in zip(self._tensors, self._cache.tensors(), strict=True):
            tensor[slots] = new
