"""Keys and values of many token sequences, one slot each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mentor_pl.engines.cascade.token_decoder import TokenDecoder


class KVStore:
    """Keys and values of all layers, `[slots, Hkv, length, D]` each; slots and length grow on demand.

    What was never written is zero: it is masked out, and a mask cannot hide a NaN.

    Attributes:
        states: The recurrent states of the same slots; None where the model has none.
    """

    def __init__(self, decoder: TokenDecoder, granularity: int = 16) -> None:
        """Start empty.

        Args:
            decoder: Whose keys and values are kept.
            granularity: The length grows by multiples of this.
        """
        self.slots, self.length, self._granularity = 0, 0, granularity
        self.states = decoder.new_states()
        self._keys = [
            torch.zeros(0, layer.num_kv_heads, 0, layer.head_dim, dtype=decoder.dtype, device=decoder.device)
            for layer in decoder.layers
        ]
        self._values = list(self._keys)

    def reserve(self, slots: int, length: int) -> None:
        """Make room for at least so many slots of so many tokens."""
        if slots <= self.slots and length <= self.length:
            return
        # half as much again: every growth copies what is there
        if slots > self.slots:
            slots = max(slots, self.slots * 3 // 2)
        if length > self.length:
            length = max(length, self.length * 3 // 2)
            length += -length % self._granularity
        slots, length = max(slots, self.slots), max(length, self.length)
        for tensors in (self._keys, self._values):
            for layer, old in enumerate(tensors):
                grown = old.new_zeros(slots, old.shape[1], length, old.shape[3])
                grown[: self.slots, :, : self.length] = old
                tensors[layer] = grown
        self.slots, self.length = slots, length
        if self.states is not None:
            self.states.reserve(slots)

    def write(
        self, layer: int, slots: torch.Tensor, offsets: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Write one token per entry.

        Args:
            layer: Index of the layer.
            slots: Slot of each token, `[N]`.
            offsets: Place in its slot, `[N]`.
            keys: `[N, Hkv, D]`.
            values: `[N, Hkv, D]`.
        """
        self._keys[layer][slots, :, offsets] = keys
        self._values[layer][slots, :, offsets] = values

    def read(self, layer: int, first_slot: int, num_slots: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return views of keys and values, each `[num_slots, Hkv, length, D]`."""
        slots = slice(first_slot, first_slot + num_slots)
        return self._keys[layer][slots, :, :length], self._values[layer][slots, :, :length]

    def gather(self, layer: int, slots: torch.Tensor | int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of some slots, each `[slots, Hkv, length, D]`: copies, or views where it is one."""
        if isinstance(slots, int):
            return self.read(layer, slots, 1, length)
        return self._keys[layer][slots, :, :length], self._values[layer][slots, :, :length]

    def move(self, moves: Sequence[tuple[int, int]], length: int) -> None:
        """Copy the first `length` tokens of slots to others, all at once: (from, to)."""
        if not moves:
            return
        device = self._keys[0].device if self._keys else None
        sources, targets = torch.tensor(moves, device=device).unbind(1)
        for tensor in (*self._keys, *self._values):
            tensor[targets, :, :length] = tensor[sources, :, :length]
        if self.states is not None:
            self.states.take(self.states, moves)
