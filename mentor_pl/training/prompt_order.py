"""The order in which prompts are tried."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any


class PromptOrder:
    """An endless sequence of shuffled passes over the prompts, cut into rounds; a function of the seed and the round alone.

    A round that begins in one pass and ends in the next holds no prompt twice: what it has of the
    old pass comes later in the new one. Only where there are fewer prompts than a round holds must
    a round repeat some.

    Args:
        num_prompts: How many there are.
        round_size: Prompts of a round.
        seed: Decides the order.
        label: Decides it, too; that of another sequence of prompts is another one.
    """

    def __init__(self, *, num_prompts: int, round_size: int, seed: int, label: str = "prompts") -> None:
        self.num_prompts = num_prompts
        self._round_size = round_size
        self._seed = seed
        self._label = label
        self._latest: tuple[int, list[int]] = (-1, [])

    def round(self, index: int) -> list[int]:
        """Return the indices of a round's prompts."""
        out: list[int] = []
        start, size = self.window(index)
        while len(out) < size:
            number, offset = divmod(start + len(out), self.num_prompts)
            out += self._pass(number)[offset : offset + size - len(out)]
        return out

    def note(self, index: int, shares: Mapping[int, float]) -> None:
        """Note what a round came to; this order does not depend on it.

        Args:
            index: The round.
            shares: Share of successes of each prompt whose group could be told, over all ranks.
        """

    def state(self, next_round: int) -> dict[str, list[Any]]:
        """Return what a resumed run needs beside the number of the next round that it draws."""
        return {}

    def load_state(self, state: Mapping[str, list[Any]]) -> None:
        """Go on from a saved state."""

    def window(self, index: int) -> tuple[int, int]:
        """Return how many prompts were tried before a round, and how many it holds."""
        return index * self._round_size, self._round_size

    def _pass(self, number: int) -> list[int]:
        """Return a pass. Each depends on the one before, back to the last one that began with a round."""
        first = number
        while self.begun(first):
            first -= 1
        known, order = self._latest
        if not first <= known <= number:
            known, order = first, self._shuffled(first)
        for following in range(known + 1, number + 1):
            order = self._after(order, following)
        self._latest = number, order
        return order

    def begun(self, number: int) -> int:
        """Return how many prompts of the round in which a pass begins belong to the pass before."""
        return number * self.num_prompts % self._round_size if self.num_prompts >= self._round_size else 0

    def _after(self, order: list[int], number: int) -> list[int]:
        shuffled = self._shuffled(number)
        begun = self.begun(number)
        there = set(order[len(order) - begun :])
        rest_of_round = [i for i in shuffled if i not in there][: self._round_size - begun]
        chosen = set(rest_of_round)
        return rest_of_round + [i for i in shuffled if i not in chosen]

    def _shuffled(self, number: int) -> list[int]:
        order = list(range(self.num_prompts))
        random.Random(f"{self._seed}/{self._label}/{number}").shuffle(order)
        return order
