"""How runs of new tokens attend: prompts, and what is appended to rows between their turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mentor_pl.engines.cascade.attention import DecodeAttention
from mentor_pl.engines.cascade.kv_store import KVStore
from mentor_pl.engines.cascade.partial_attention import (
    additive_mask,
    hidden_keys,
    merge_attention,
    partial_attention,
    weigh_against_sinks,
)
from mentor_pl.engines.cascade.token_decoder import AttentionLayer, TokenDecoder

SCORES_TOGETHER = {"cpu": 0, "cuda": 1 << 28}
"""Scores of a layer computed at once where runs attend together, by type of device: 1 GiB on a GPU. On a CPU each run attends by
itself: there padding costs more than a kernel's launch."""


@dataclass(frozen=True, slots=True)
class Run:
    """New tokens of one sequence, to be appended to its slot.

    Attributes:
        token_ids: What is appended.
        slot: Where to.
        start: Tokens in the slot already.
        prefix_slot: Slot of what comes before the slot's own tokens; unused where `prefix_length`
            is 0.
        prefix_length: Its length.
    """

    token_ids: Sequence[int]
    slot: int
    start: int
    prefix_slot: int = 0
    prefix_length: int = 0

    @property
    def own(self) -> int:
        """Tokens in the slot once these are there."""
        return self.start + len(self.token_ids)

    @property
    def end(self) -> int:
        """Tokens of the conversation once these are there."""
        return self.prefix_length + self.own


class RunAttention:
    """Attention of runs of new tokens, one sequence after the other.

    Attributes:
        token_ids: All new tokens, `[N]`.
        positions: Of each in its conversation, `[N]`.
        end: All positions are below it.
        lengths: Of the runs, `[runs]`.
    """

    def __init__(self, decoder: TokenDecoder, prefixes: KVStore, store: KVStore, runs: Sequence[Run]) -> None:
        """Prepare one forward.

        Args:
            decoder: The model.
            prefixes: Holds what comes before the slots.
            store: Holds the slots that are appended to.
            runs: What is appended, in the order of the forward's tokens.
        """
        self._decoder, self._prefixes, self._store = decoder, prefixes, store
        device = decoder.device
        slots = torch.tensor([run.slot for run in runs], device=device)
        self.token_ids = torch.tensor([token_id for run in runs for token_id in run.token_ids], device=device)
        self.lengths = torch.tensor([len(run.token_ids) for run in runs], device=device)
        self._slots = slots.repeat_interleave(self.lengths)
        offsets = [offset for run in runs for offset in range(run.start, run.own)]
        self._offsets = torch.tensor(offsets, device=device)
        before = torch.tensor([run.prefix_length for run in runs], device=device)
        self.positions = self._offsets + before.repeat_interleave(self.lengths)
        self.end = max(run.end for run in runs)
        self._parts = [_Part(runs, indices, device) for indices in _together(runs, decoder)]
        self.num_rows, self.states, self.state_slots = len(runs), store.states, slots

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sinks: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Write and attend; see `token_decoder.Attend`."""
        self._store.write(layer, self._slots, self._offsets, key, value)
        output = torch.empty_like(query)
        for part in self._parts:
            attended = self._attend(layer, part, query[part.queries], sinks)
            output[part.tokens] = attended if part.real is None else attended[part.real]
        return output

    def _attend(self, layer: int, part: _Part, query: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
        """Return what the queries of a part see, `[rows * width, Hq, D]` like the queries themselves."""
        rows, width, (_, heads, dim) = part.rows, part.width, query.shape
        spec = self._decoder.layers[layer]
        prefix_mask, own_mask = part.masks(spec, self._decoder.dtype)
        keys, values = self._store.gather(layer, part.slots, part.own)
        if own_mask is None:
            query = query.view(rows, width, heads, dim).transpose(1, 2)
            output = F.scaled_dot_product_attention(
                query, keys, values, is_causal=True, scale=spec.scale, enable_gqa=heads != keys.shape[1]
            )
            return output.transpose(1, 2).reshape(rows * width, heads, dim)
        kv_heads, repeats = spec.num_kv_heads, spec.repeats
        stacked = query.view(rows, width, kv_heads, repeats, dim).permute(0, 2, 3, 1, 4)
        stacked = stacked.reshape(rows, kv_heads, repeats * width, dim)
        output, lse = partial_attention(stacked, keys, values, own_mask, spec.scale, spec.softcap)
        if part.prefix:
            keys, values = self._prefixes.gather(layer, part.prefix_slots, part.prefix)
            shared = partial_attention(stacked, keys, values, prefix_mask, spec.scale, spec.softcap)
            output, lse = merge_attention(shared, (output, lse)), torch.logaddexp(shared[1], lse)
        if sinks is not None:
            output = weigh_against_sinks(output, lse, sinks.view(kv_heads, repeats).repeat_interleave(width, 1))
        return output.view(rows, kv_heads, repeats, width, dim).permute(0, 3, 1, 2, 4).reshape(-1, heads, dim)


class _Part:
    """Runs of about the same length that attend together, padded to the longest: what pads repeats a run's last token.

    Attributes:
        rows: Number of runs.
        width: Tokens of the longest one.
        own: Tokens in a slot at most, the new ones included.
        prefix: Tokens in a prefix at most.
        slots: Slots of the runs, `[rows]`; the number where there is one.
        prefix_slots: Slots of their prefixes, likewise.
        tokens: Which of the forward's tokens are the part's.
        queries: The same with what pads, `[rows * width]`.
        real: Which of `queries` do not pad; None for all.
    """

    tokens: torch.Tensor | slice
    queries: torch.Tensor | slice
    slots: torch.Tensor | int
    prefix_slots: torch.Tensor | int

    def __init__(self, runs: Sequence[Run], indices: Sequence[int], device: torch.device) -> None:
        mine = [runs[index] for index in indices]
        lengths = [len(run.token_ids) for run in mine]
        self.rows, self.width = len(mine), max(lengths)
        self.own, self.prefix = max(run.own for run in mine), max(run.prefix_length for run in mine)
        self._end, self._device = max(run.end for run in mine), device
        begins = [0]
        for run in runs:
            begins.append(begins[-1] + len(run.token_ids))
        if self.rows == 1:
            [index], [run] = indices, mine
            self.tokens = self.queries = slice(begins[index], begins[index + 1])
            self.slots, self.prefix_slots, self.real = run.slot, run.prefix_slot, None
        else:
            places = torch.arange(self.width)
            firsts, counts = torch.tensor([begins[index] for index in indices]), torch.tensor(lengths)
            queries = firsts[:, None] + torch.minimum(places, counts[:, None] - 1)
            real = (places < counts[:, None]).view(-1).nonzero()[:, 0]
            self.queries, self.tokens = queries.view(-1).to(device), queries.view(-1)[real].to(device)
            self.real = real.to(device)
            self.slots = torch.tensor([run.slot for run in mine], device=device)
            self.prefix_slots = torch.tensor([run.prefix_slot for run in mine], device=device)
        self._runs = mine
        self._masks: dict[AttentionLayer, tuple[torch.Tensor | None, torch.Tensor | None]] = {}

    def masks(self, spec: AttentionLayer, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the masks of prefixes and of the slots' own tokens, each `[rows, 1, repeats * width, S]`; both None for plain causal."""
        if spec not in self._masks:
            self._masks[spec] = self._new_masks(spec, dtype)
        return self._masks[spec]

    def _new_masks(self, spec: AttentionLayer, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        window = None if spec.window is None or self._end <= spec.window else spec.window
        starts = [run.start for run in self._runs]
        if window is None and not any(starts) and not self.prefix and spec.softcap is None and not spec.has_sinks:
            return None, None
        keys = torch.arange(max(self.own, self.prefix), device=self._device)
        last = keys.new_tensor([[run.own - 1] for run in self._runs])
        queries = torch.minimum(keys.new_tensor(starts)[:, None] + keys.new_tensor(range(self.width)), last)
        own = hidden_keys(queries, keys[: self.own], window).repeat(1, spec.repeats, 1)
        own_mask = additive_mask(own[:, None], dtype)
        lengths = [run.prefix_length for run in self._runs]
        if not self.prefix or (window is None and min(lengths) == self.prefix):
            return None, own_mask
        before = keys.new_tensor(lengths)[:, None]
        beyond = (keys[: self.prefix] >= before)[:, None]
        if window is None:
            return additive_mask(beyond[:, None], dtype), own_mask
        hidden = hidden_keys(before + queries, keys[: self.prefix], window).repeat(1, spec.repeats, 1)
        return additive_mask((hidden | beyond)[:, None], dtype), own_mask


def _together(runs: Sequence[Run], decoder: TokenDecoder) -> list[list[int]]:
    """Say which runs attend together: those of which none is twice as long as another, as many as memory allows."""
    limit = SCORES_TOGETHER.get(decoder.device.type, 0)
    heads = max((layer.num_heads for layer in decoder.layers), default=0)
    parts: list[list[int]] = []
    longest = end = 0
    for index in sorted(range(len(runs)), key=lambda index: -len(runs[index].token_ids)):
        length, end = len(runs[index].token_ids), max(end, runs[index].end)
        if not parts or 2 * length < longest or (len(parts[-1]) + 1) * longest * end * heads > limit:
            parts.append([])
            longest, end = length, runs[index].end
        parts[-1].append(index)
    return parts


class MixedAttention:
    """Runs of new tokens, and after them one new token of many rows, which may go on from these runs."""

    def __init__(self, runs: RunAttention, decoding: DecodeAttention) -> None:
        self._runs, self._decoding, self._num_run_tokens = runs, decoding, len(runs.positions)
        self.num_rows, self.states = 1, None
        self.state_slots = slice(0, 0)

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sinks: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Write and attend; see `token_decoder.Attend`."""
        count = self._num_run_tokens
        first = self._runs(layer, query[:count], key[:count], value[:count], sinks)
        return torch.cat([first, self._decoding(layer, query[count:], key[count:], value[count:], sinks)])
