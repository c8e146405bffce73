"""The order in which prompts are tried."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class RoundWindows(ABC):
    """Cuts an endless sequence of places into rounds."""

    @abstractmethod
    def window(self, index: int) -> tuple[int, int]:
        """Return how many places there are before a round, and how many it has."""

    @abstractmethod
    def round_of(self, place: int) -> int:
        """Return the round in which a place lies."""


class EqualRounds(RoundWindows):
    """Rounds of one size.

    Args:
        size: Places of a round.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def window(self, index: int) -> tuple[int, int]:
        """See `RoundWindows.window`."""
        return index * self._size, self._size

    def round_of(self, place: int) -> int:
        """See `RoundWindows.round_of`."""
        return place // self._size


class PromptOrder:
    """An endless sequence of shuffled passes over the prompts, cut into rounds; a function of the seed and the round alone.

    A round that begins in one pass and ends in the next holds no prompt twice: what it has of the
    old pass comes later in the new one. Only where there are fewer prompts than a round holds must
    a round repeat some.

    Args:
        num_prompts: How many there are.
        rounds: Places of each round.
        seed: Decides the order.
        name: Of the environment, where there are several; decides it, too.
    """

    is_adaptive = False
    """Whether later rounds depend on what earlier ones came to."""

    def __init__(self, *, num_prompts: int, rounds: RoundWindows, seed: int, name: str = "") -> None:
        self.num_prompts = num_prompts
        self._rounds = rounds
        self._seed = seed
        self._suffix = f"/{name}" if name else ""
        self._latest: tuple[int, list[int]] = (-1, [])

    def round(self, index: int) -> list[int]:
        """Return the indices of a round's prompts."""
        out: list[int] = []
        start, size = self._rounds.window(index)
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

    def metrics(self) -> dict[str, float]:
        """Return what a log says of the order after the last round that was noted."""
        return {}

    def _pass(self, number: int) -> list[int]:
        """Return a pass. Each depends on the one before, back to the last one that began with a round."""
        first = number
        while self._begun(first)[0]:
            first -= 1
        known, order = self._latest
        if not first <= known <= number:
            known, order = first, self._shuffled(first)
        for following in range(known + 1, number + 1):
            order = self._after(order, following)
        self._latest = number, order
        return order

    def _begun(self, number: int) -> tuple[int, int]:
        """Return how many prompts of the round in which a pass begins belong to the pass before, and how many to this one."""
        first = number * self.num_prompts
        start, size = self._rounds.window(self._rounds.round_of(first))
        begun = first - start if size <= self.num_prompts else 0
        return begun, size - begun

    def _after(self, order: list[int], number: int) -> list[int]:
        shuffled = self._shuffled(number)
        begun, left = self._begun(number)
        there = set(order[len(order) - begun :])
        rest_of_round = [i for i in shuffled if i not in there][:left]
        chosen = set(rest_of_round)
        return rest_of_round + [i for i in shuffled if i not in chosen]

    def _shuffled(self, number: int) -> list[int]:
        order = list(range(self.num_prompts))
        random.Random(f"{self._seed}/prompts{self._suffix}/{number}").shuffle(order)
        return order
