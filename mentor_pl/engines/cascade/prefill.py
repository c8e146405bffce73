"""Runs of new tokens through a decoder: as many in one forward as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from mentor_pl.engines.cascade.kv_store import KVStore
from mentor_pl.engines.cascade.run_attention import Run, RunAttention
from mentor_pl.engines.cascade.token_decoder import TokenDecoder

TOKENS_PER_FORWARD = 4096
"""New tokens computed at once: bounds the memory of their activations."""


def compute_runs(decoder: TokenDecoder, prefixes: KVStore, store: KVStore, runs: Sequence[Run]) -> torch.Tensor:
    """Append runs to their slots.

    Args:
        decoder: The model.
        prefixes: Holds what comes before the slots.
        store: Holds the slots that are appended to.
        runs: What is appended.

    Returns:
        What the decoder makes the logits of each run's last token of, `[runs, H]`.
    """
    last: dict[int, torch.Tensor] = {}
    for indices, batch in _rows_of_equal_length(runs) if decoder.is_recurrent else _packed(runs):
        attention = RunAttention(decoder, prefixes, store, batch)
        ends = attention.lengths.cumsum(0) - 1
        found = decoder.forward(attention.token_ids, attention.positions, attention.end, attention, ends)
        last.update(zip(indices, found.split(1), strict=True))
    return torch.cat([last[index] for index in range(len(runs))])


def _packed(runs: Sequence[Run]) -> Iterator[tuple[list[int], list[Run]]]:
    """Give runs one after the other, with their indices, as many as fit; at least one at a time."""
    begin = 0
    while begin < len(runs):
        end, tokens = begin + 1, len(runs[begin].token_ids)
        while end < len(runs) and tokens + len(runs[end].token_ids) <= TOKENS_PER_FORWARD:
            tokens += len(runs[end].token_ids)
            end += 1
        yield list(range(begin, end)), list(runs[begin:end])
        begin = end


def _rows_of_equal_length(runs: Sequence[Run]) -> Iterator[tuple[list[int], list[Run]]]:
    """Cut runs into pieces of 1, 2, 4 ... tokens, the longest first, and give those of one length together.

    Padding would run through a recurrent state. The number of forwards grows with the logarithm of
    the longest run alone.
    """
    done = [0] * len(runs)
    size = 1 << (max(len(run.token_ids) for run in runs).bit_length() - 1)
    while size:
        due = [index for index, run in enumerate(runs) if len(run.token_ids) & size]
        rows = max(1, TOKENS_PER_FORWARD // size)
        for begin in range(0, len(due), rows):
            indices = due[begin : begin + rows]
            pieces: list[Run] = []
            for index in indices:
                run, start = runs[index], done[index]
                done[index] += size
                pieces.append(replace(run, token_ids=run.token_ids[start : start + size], start=run.start + start))
            yield indices, pieces
        size //= 2
