"""Decoding steps recorded once per shape and replayed: launching a small model's kernels takes a GPU longer than running them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mentor_pl.engines.cascade.attention import DecodeAttention, GroupLayout
from mentor_pl.engines.cascade.kv_store import KVStore
from mentor_pl.engines.cascade.token_decoder import TokenDecoder

Record = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]
"""Records a computation on tensors that stay where they are; returns what computes it again, and the tensor that then holds the result."""


def cuda_graphs() -> Record:
    """Return what records CUDA graphs that share their memory, for each one's result is used up before another is replayed."""
    # not for longer than any of them lives: a pool that all its graphs have left cannot be entered again
    pool = torch.cuda.graph_pool_handle()

    def record(compute: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        # thread-local: the watchdog of a process group asks the device from a thread of its own
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = compute()
        return graph.replay, result

    return record


RECORDERS: dict[str, Callable[[], Record]] = {"cuda": cuda_graphs}
"""By type of device; on any other a step is cheap to launch, or nothing records it."""


class DecodeGraphs:
    """Computes the logits of decoding steps, from recordings where there are any.

    A recording has fixed shapes: rows and rows of a prefix are padded to powers of four, and
    attention reads the stores at their whole length. The first step of a shape is computed as
    usual, for it may have kernels to choose and memory to set up; the second is recorded. When a
    store grows its recordings are void.
    """

    def __init__(
        self, decoder: TokenDecoder, prefixes: KVStore, suffixes: KVStore, recorder: Callable[[], Record]
    ) -> None:
        """Start without recordings.

        Args:
            decoder: The model.
            prefixes: Holds each group's prompt.
            suffixes: Holds what follows it.
            recorder: One of `RECORDERS`.
        """
        self._decoder, self._prefixes, self._suffixes, self._recorder = decoder, prefixes, suffixes, recorder
        self._record: Record  # a new one for each set of sizes
        self._steps: dict[tuple[int, int], _Step] = {}
        self._recordings: dict[tuple[int, int], tuple[Callable[[], None], torch.Tensor]] = {}
        self._sizes: tuple[int, ...] = ()

    def logits(
        self, layout: GroupLayout, token_ids: torch.Tensor, lengths: torch.Tensor, longest: int, num_slots: int
    ) -> torch.Tensor:
        """Compute one step, and keep its keys and values.

        Args:
            layout: Which row has which prefix.
            token_ids: Of the rows in the first slots, `[B]`.
            lengths: Tokens in each row's suffix before this one, `[B]`.
            longest: The largest of these.
            num_slots: Slots of the suffix store in use, by these rows and others.

        Returns:
            Logits `[B, V]`, valid until the next call.
        """
        prefixes, suffixes = self._prefixes, self._suffixes
        rows, width = _padded(len(token_ids), suffixes.slots - 1), _padded(layout.width)
        # one slot more: what padding writes must not hit a row's own
        suffixes.reserve(max(num_slots, rows) + 1, longest + 1)
        self._decoder.reserve_positions(prefixes.length + suffixes.length)
        sizes = (prefixes.slots, prefixes.length, suffixes.slots, suffixes.length, self._decoder.num_positions)
        if sizes != self._sizes:
            self._steps, self._recordings, self._sizes = {}, {}, sizes
            self._record = self._recorder()
        shape = rows, width
        step = self._steps.get(shape)
        if step is None:
            step = self._steps[shape] = _Step(self._decoder, prefixes, suffixes, rows, width)
            step.fill(layout, token_ids, lengths)
            return step.compute()[: len(token_ids)]
        step.fill(layout, token_ids, lengths)
        if shape not in self._recordings:
            self._recordings[shape] = self._record(step.compute)
        replay, result = self._recordings[shape]
        replay()
        return result[: len(token_ids)]


class _Step:
    """A decoding step on tensors that stay where they are; rows that only pad it write to the last slot, which nobody reads."""

    def __init__(self, decoder: TokenDecoder, prefixes: KVStore, suffixes: KVStore, rows: int, width: int) -> None:
        def zeros(count: int) -> torch.Tensor:
            return torch.zeros(count, dtype=torch.int64, device=decoder.device)

        self._decoder, self._prefixes, self._suffixes = decoder, prefixes, suffixes
        self._token_ids, self._lengths, self._slots = zeros(rows), zeros(rows), zeros(rows)
        self._layout = GroupLayout(
            gather=zeros(prefixes.slots * width),
            scatter=zeros(rows),
            lengths=zeros(prefixes.slots),
            prefix_lengths=zeros(rows),
            width=width,
            longest=prefixes.length,
            even=False,
        )
        self._source: GroupLayout | None = None

    def fill(self, layout: GroupLayout, token_ids: torch.Tensor, lengths: torch.Tensor) -> None:
        """Take a step's inputs over."""
        count = len(token_ids)
        if layout is not self._source:
            self._source = layout
            self._lay_out(layout, count)
        self._token_ids[:count] = token_ids
        self._lengths[:count] = lengths

    def _lay_out(self, layout: GroupLayout, count: int) -> None:
        fixed, groups, width = self._layout, len(layout.lengths), layout.width
        for tensor in (
            self._token_ids,
            self._lengths,
            fixed.gather,
            fixed.scatter,
            fixed.lengths,
            fixed.prefix_lengths,
        ):
            tensor.zero_()
        fixed.gather.view(-1, fixed.width)[:groups, :width] = layout.gather.view(groups, width)
        fixed.scatter[:count] = layout.scatter // width * fixed.width + layout.scatter % width
        fixed.lengths[:groups] = layout.lengths
        fixed.prefix_lengths[:count] = layout.prefix_lengths
        self._slots.fill_(self._suffixes.slots - 1)
        self._slots[:count] = torch.arange(count, device=self._slots.device)

    def compute(self) -> torch.Tensor:
        """Return the logits of all rows, those that pad included."""
        decoder, span = self._decoder, self._suffixes.length
        attention = DecodeAttention(
            decoder, self._prefixes, self._suffixes, self._layout, self._lengths, span, self._slots
        )
        return decoder.logits(decoder.forward(self._token_ids, attention.positions, attention.end, attention))


def _padded(count: int, room: float = float("inf")) -> int:
    """Return the next power of four, or of two where there is no room for that one."""
    bits = (count - 1).bit_length()
    return 1 << (bits + bits % 2 if 1 << (bits + bits % 2) <= room else bits)
