"""Prompts computed once: for all rows that share one, and without what an earlier prompt begins with as well."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch

from mentor_pl.engines.cascade.kv_store import KVStore
from mentor_pl.engines.cascade.prefill import compute_runs
from mentor_pl.engines.cascade.run_attention import Run
from mentor_pl.engines.cascade.token_decoder import TokenDecoder


@dataclass(slots=True, eq=False)
class Prompt:
    """A prompt whose keys and values are at hand.

    Attributes:
        token_ids: The prompt.
        slot: Where its keys and values lie.
        hidden: What the decoder makes its last token's logits of, `[1, H]`.
        num_rows: Rows that go on from it.
    """

    token_ids: tuple[int, ...]
    slot: int
    hidden: torch.Tensor
    num_rows: int = 0


class PromptCache:
    """Prompts by their tokens. They fill the slots of `store` from 0 on without a hole.

    Recurrent states are kept of whole prompts only, so that with them nothing is shared but a whole
    prompt.
    """

    def __init__(self, decoder: TokenDecoder) -> None:
        self._decoder = decoder
        self.store = KVStore(decoder)
        self._prompts: dict[tuple[int, ...], Prompt] = {}
        self._sorted: list[tuple[int, ...]] = []  # neighbours share the longest prefixes

    def __getitem__(self, token_ids: tuple[int, ...]) -> Prompt:
        """Return a prompt that was added."""
        return self._prompts[token_ids]

    def lengths(self) -> list[int]:
        """Return the number of tokens in each slot."""
        return [len(prompt.token_ids) for prompt in sorted(self._prompts.values(), key=lambda prompt: prompt.slot)]

    def add(self, prompts: Iterable[tuple[int, ...]]) -> int:
        """Compute those prompts that are not there yet; what one shares with an earlier one is copied.

        Returns:
            Number of tokens computed.
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]
        computed = 0
        while new:
            # nothing to share yet: the first prompt is computed alone so that the others find it
            batch, new = (new, []) if self._prompts or self.store.states is not None else (new[:1], new[1:])
            self.store.reserve(len(self._prompts) + len(batch), max(map(len, batch)))
            if self.store.states is not None:
                self.store.states.clear(range(len(self._prompts), len(self._prompts) + len(batch)))
            runs: list[Run] = []
            for slot, token_ids in enumerate(batch, start=len(self._prompts)):
                donor, shared = self._longest_shared(token_ids)
                if donor is not None:
                    self.store.move([(donor.slot, slot)], shared)
                runs.append(Run(token_ids[shared:], slot, shared))
            hidden = compute_runs(self._decoder, self.store, self.store, runs)
            computed += sum(len(run.token_ids) for run in runs)
            for run, token_ids, last in zip(runs, batch, hidden.split(1), strict=True):
                self._prompts[token_ids] = Prompt(token_ids, run.slot, last)
                bisect.insort(self._sorted, token_ids)
        return computed

    def drop_unused(self, wanted: Collection[tuple[int, ...]]) -> None:
        """Forget prompts that no row goes on from and that are not wanted; the last slot moves into each hole."""
        for token_ids in [t for t, prompt in self._prompts.items() if prompt.num_rows == 0 and t not in wanted]:
            hole = self._prompts.pop(token_ids)
            self._sorted.remove(token_ids)
            last = max(self._prompts.values(), key=lambda prompt: prompt.slot, default=hole)
            if last.slot > hole.slot:
                self.store.move([(last.slot, hole.slot)], len(last.token_ids))
                last.slot = hole.slot

    def _longest_shared(self, token_ids: tuple[int, ...]) -> tuple[Prompt | None, int]:
        """Return the prompt that shares the longest prefix, and its length; the last token is never shared."""
        if self.store.states is not None:
            return None, 0
        at = bisect.bisect(self._sorted, token_ids)
        best: tuple[Prompt | None, int] = None, 0
        for neighbour in self._sorted[max(at - 1, 0) : at + 1]:
            pairs = enumerate(zip(token_ids[:-1], neighbour, strict=False))
            shared = next((i for i, (a, b) in pairs if a != b), min(len(token_ids) - 1, len(neighbour)))
            if shared > best[1]:
                best = self._prompts[neighbour], shared
        return best
