"""Prompts in pools by how often the student succeeds, and how much of a round each pool gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mentor_pl.errors import ConfigError

UNSEEN = -1.0
"""Success rate of a prompt that was never tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifficultyPools:
    """Spends most of a round on prompts that the student solves now and then: only these have a signal.

    A prompt's rate is a moving average of its groups' share of successes. It is failed below
    `failed_below`, solved above `solved_above`, and else in between, as are prompts that were never
    tried.

    Attributes:
        failed: Share of the places for prompts that fail.
        solved: Share for prompts that are solved; the rest is for those in between. A share that no
            round can have exactly evens out over rounds. A pool that has too few prompts leaves its
            places to the others: first in between, then failed, then solved.
        failed_below: In [0, 1].
        solved_above: In [0, 1], not below `failed_below`.
        smoothing: Weight of the newest group in a prompt's rate; in (0, 1].
    """

    failed: float = 0.2
    solved: float = 0.1
    failed_below: float = 0.1
    solved_above: float = 0.9
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        if min(self.failed, self.solved) < 0 or self.failed + self.solved > 1:
            raise ConfigError(
                f"guidance.difficulty_pools: failed {self.failed} and solved {self.solved} must be at or above 0, and their sum at most 1"
            )
        if not 0 <= self.failed_below <= self.solved_above <= 1 or not 0 < self.smoothing <= 1:
            raise ConfigError(
                f"guidance.difficulty_pools: failed_below {self.failed_below} and solved_above {self.solved_above} must lie in [0, 1] in "
                f"this order, smoothing {self.smoothing} in (0, 1]"
            )

    def updated(self, rate: float, share: float) -> float:
        """Return a prompt's rate after a group with this share of successes."""
        return share if rate == UNSEEN else rate + self.smoothing * (share - rate)

    def chosen(
        self, rates: Sequence[float], order: Sequence[int], *, num_places: int, places_before: int = 0
    ) -> list[int]:
        """Return the prompts of a round.

        Args:
            rates: Of every prompt; `UNSEEN` where it was never tried.
            order: Prompts to choose from, those that are due first in front; at least `num_places`.
            num_places: Prompts of the round.
            places_before: Places of all rounds before it.
        """
        failed = [i for i in order if rates[i] != UNSEEN and rates[i] < self.failed_below]
        solved = [i for i in order if rates[i] > self.solved_above]
        elsewhere = {*failed, *solved}
        between = [i for i in order if i not in elsewhere]
        num_failed, num_solved = (_places(share, places_before, num_places) for share in (self.failed, self.solved))
        num_solved = min(num_solved, num_places - num_failed)
        taken = failed[:num_failed] + solved[:num_solved]
        rest = between + failed[num_failed:] + solved[num_solved:]
        return taken + rest[: num_places - len(taken)]


def _places(share: float, before: int, count: int) -> int:
    """Return a pool's places of a round: what is missing to its share of all places so far."""
    return round(share * (before + count)) - round(share * before)
