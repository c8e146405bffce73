"""How a decoding step attends: one new token of many rows, to the prefix that a group shares and to each row's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mentor_pl.engines.cascade.kv_store import KVStore
from mentor_pl.engines.cascade.partial_attention import (
    additive_mask,
    hidden_keys,
    merge_attention,
    partial_attention,
    weigh_against_sinks,
)
from mentor_pl.engines.cascade.token_decoder import TokenDecoder


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLayout:
    """Which rows share which prefix, as gathers that bring the rows of a prefix together and back.

    Attributes:
        gather: The rows of each prefix, one prefix after the other, `[groups * width]`.
        scatter: Where each row is in there, `[B]`.
        lengths: Tokens in each prefix, `[groups]`.
        prefix_lengths: Tokens in the prefix of each row, `[B]`.
        width: Rows that share a prefix, at most.
        longest: Tokens in a prefix, at most.
        even: Whether all prefixes are that long.
    """

    gather: torch.Tensor
    scatter: torch.Tensor
    lengths: torch.Tensor
    prefix_lengths: torch.Tensor
    width: int
    longest: int
    even: bool

    @classmethod
    def of(cls, groups: Sequence[int], prefix_lengths: Sequence[int], device: torch.device) -> GroupLayout:
        """Lay out.

        Args:
            groups: Slot of each row's prefix in the prefix store.
            prefix_lengths: Tokens in each slot of the prefix store.
            device: Where the gathers live.
        """
        members: list[list[int]] = [[] for _ in prefix_lengths]
        for row, group in enumerate(groups):
            members[group].append(row)
        width = max(map(len, members))
        # a smaller group repeats row 0, whose surplus results nobody reads
        gather = [row for rows in members for row in rows + [0] * (width - len(rows))]
        places = {row: group * width + place for group, rows in enumerate(members) for place, row in enumerate(rows)}
        lengths = torch.tensor(prefix_lengths, device=device)
        return cls(
            gather=torch.tensor(gather, device=device),
            scatter=torch.tensor([places[row] for row in range(len(groups))], device=device),
            lengths=lengths,
            prefix_lengths=lengths[torch.tensor(list(groups), device=device)],
            width=width,
            longest=max(prefix_lengths),
            even=min(prefix_lengths) == max(prefix_lengths),
        )


class DecodeAttention:
    """Attention of one new token per row: to its group's prefix, for all rows of the group at once, and to its own suffix.

    Attributes:
        positions: Of the new tokens in their conversations, `[B]`.
        end: All positions are below it.
    """

    def __init__(
        self,
        decoder: TokenDecoder,
        prefixes: KVStore,
        suffixes: KVStore,
        layout: GroupLayout,
        lengths: torch.Tensor,
        span: int,
        slots: torch.Tensor | None = None,
    ) -> None:
        """Prepare one step.

        Args:
            decoder: The model.
            prefixes: Holds each group's prompt.
            suffixes: Holds what follows it, rows 0 to B - 1.
            layout: Which row has which prefix.
            lengths: Tokens in each row's suffix before this one, `[B]`.
            span: All lengths are below it.
            slots: Where each row's new token is written, `[B]`, if not to its own slot.
        """
        self._decoder, self._prefixes, self._suffixes, self._layout = decoder, prefixes, suffixes, layout
        self._slots = torch.arange(len(lengths), device=lengths.device) if slots is None else slots
        self._offsets, self._span = lengths, span
        self.positions = layout.prefix_lengths + lengths
        self.end = layout.longest + span
        self._masks: dict[tuple[int | None, int], tuple[torch.Tensor | None, torch.Tensor | None]] = {}
        self.num_rows, self.states = len(lengths), suffixes.states
        self.state_slots = slice(0, len(lengths))

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sinks: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Write and attend; see `token_decoder.Attend`."""
        rows, heads, dim = query.shape
        spec = self._decoder.layers[layer]
        kv_heads, repeats = spec.num_kv_heads, spec.repeats
        layout = self._layout
        prefix_mask, suffix_mask = self._mask_parts(spec.window, repeats)
        self._suffixes.write(layer, self._slots, self._offsets, key, value)
        query = query.reshape(rows, kv_heads, repeats, dim)
        own_keys, own_values = self._suffixes.read(layer, 0, rows, self._span)
        own = partial_attention(query, own_keys, own_values, suffix_mask, spec.scale, spec.softcap)

        groups, width = len(layout.lengths), layout.width
        together = query[layout.gather].view(groups, width, kv_heads, repeats, dim).transpose(1, 2)
        keys, values = self._prefixes.read(layer, 0, groups, layout.longest)
        shared, lse = partial_attention(
            together.reshape(groups, kv_heads, width * repeats, dim),
            keys,
            values,
            prefix_mask,
            spec.scale,
            spec.softcap,
        )
        shared = shared.view(groups, kv_heads, width, repeats, dim).transpose(1, 2).reshape(-1, kv_heads, repeats, dim)
        lse = lse.view(groups, kv_heads, width, repeats).transpose(1, 2).reshape(-1, kv_heads, repeats)
        prefix = shared[layout.scatter], lse[layout.scatter]
        merged = merge_attention(prefix, own)
        if sinks is not None:
            merged = weigh_against_sinks(merged, torch.logaddexp(prefix[1], own[1]), sinks.view(kv_heads, repeats))
        return merged.reshape(rows, heads, dim)

    def _mask_parts(self, window: int | None, repeats: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the masks of prefixes `[groups, 1, 1 | width * repeats, longest]` and suffixes `[B, 1, 1, span]`."""
        if window is not None and self.end <= window:
            window = None
        key = window, repeats if window is not None else 0
        if key not in self._masks:
            self._masks[key] = self._new_masks(window, repeats)
        return self._masks[key]

    def _new_masks(self, window: int | None, repeats: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        layout, decoder = self._layout, self._decoder
        keys = torch.arange(max(layout.longest, self._span), device=self.positions.device)
        own_keys, prefix_keys = keys[: self._span], keys[: layout.longest]
        own = hidden_keys(self._offsets[:, None], own_keys, window)
        own_mask = additive_mask(own[:, None], decoder.dtype) if self._span > 1 else None
        beyond = prefix_keys >= layout.lengths[:, None]
        if window is None:
            return None if layout.even else additive_mask(beyond[:, None, None], decoder.dtype), own_mask
        by_row = self.positions[layout.gather].view(-1, layout.width)
        hidden = (hidden_keys(by_row, prefix_keys, window) | beyond[:, None]).repeat_interleave(repeats, 1)
        return additive_mask(hidden[:, None], decoder.dtype), own_mask
