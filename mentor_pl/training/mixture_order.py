"""The order in which the prompts of several environments are tried."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, fsum

from mentor_pl.environments import Split
from mentor_pl.errors import ConfigError
from mentor_pl.training.prompt_order import PromptOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredient:
    """One environment of a mixture.

    Attributes:
        name: Decides, with the seed, the order of its prompts.
        num_prompts: How many it has.
        weight: Its share of each round, relative to the others.
    """

    name: str
    num_prompts: int
    weight: float


class MixtureOrder(PromptOrder):
    """An endless sequence of rounds in which every environment has its share; a function of the seed and the round alone.

    After any number of places every environment has had its share of them to within one or two.
    Within a round the places are shuffled, so that steps and ranks get mixtures, too. Each
    environment goes through its own prompts as `PromptOrder` does.

    Args:
        ingredients: The environments. Their prompts are numbered one after the other.
        round_size: Prompts of a round.
        seed: Decides the order.
    """

    def __init__(self, *, ingredients: Sequence[Ingredient], round_size: int, seed: int) -> None:
        num_prompts = sum(one.num_prompts for one in ingredients)
        super().__init__(num_prompts=num_prompts, round_size=round_size, seed=seed)
        self._schedule = _Schedule([one.weight for one in ingredients], round_size)
        self._members = [_Member(one, place, self._schedule, seed) for place, one in enumerate(ingredients)]
        self._offsets = [sum(one.num_prompts for one in ingredients[:place]) for place in range(len(ingredients))]

    def round(self, index: int) -> list[int]:
        """Return the indices of a round's prompts."""
        drawn = [iter(member.round(index)) for member in self._members]
        places = [member for member, one in enumerate(self._members) for _ in range(one.window(index)[1])]
        random.Random(f"{self._seed}/mixture/{index}").shuffle(places)
        return [self._offsets[member] + next(drawn[member]) for member in places]


def training_order(splits: Sequence[Split], counts: Sequence[int], *, round_size: int, seed: int) -> PromptOrder:
    """Return the order of the prompts of one environment, or of several.

    Args:
        splits: The training environments.
        counts: Prompts of each.
        round_size: Prompts of a round.
        seed: Decides the order.
    """
    if len(splits) == 1:
        return PromptOrder(num_prompts=counts[0], round_size=round_size, seed=seed)
    ingredients = [
        Ingredient(name=split.name, num_prompts=count, weight=split.environment.weight)
        for split, count in zip(splits, counts, strict=True)
    ]
    return MixtureOrder(ingredients=ingredients, round_size=round_size, seed=seed)


def check_shares(splits: Sequence[Split], counts: Sequence[int], round_size: int) -> None:
    """Check that no prompt is tried twice in a round.

    Args:
        splits: The training environments.
        counts: Prompts of each.
        round_size: Prompts of a round.

    Raises:
        ConfigError: An environment has fewer prompts than its share of a round.
    """
    drawn = prompts_in_a_round([split.environment.weight for split in splits], round_size)
    for split, count, share in zip(splits, counts, drawn, strict=True):
        if share > count:
            what = f"so large that it has {share} of {split.name!r}" if split.marked else str(share)
            raise ConfigError(
                f"data.prompts_per_round is {what}, but there are {count} prompts to train on, and a prompt tried "
                "twice in a round gives the same samples twice; lower it, or give more references"
            )


def prompts_in_a_round(weights: Sequence[float], round_size: int) -> list[int]:
    """Return how many prompts of each environment a round has, rounded up."""
    total = fsum(weights)
    return [ceil(round(weight / total * round_size, 6)) for weight in weights]


class _Schedule:
    """How many places each environment has had before each round: a place goes to the one that is farthest behind."""

    def __init__(self, weights: Sequence[float], round_size: int) -> None:
        total = fsum(weights)
        self._shares = [weight / total for weight in weights]
        self._round_size = round_size
        self._starts = [[0] for _ in weights]

    def start(self, member: int, index: int) -> int:
        """Return how many places an environment has had before a round."""
        while len(self._starts[member]) <= index:
            self._add_round()
        return self._starts[member][index]

    def round_of(self, member: int, place: int) -> int:
        """Return the round in which an environment has a place of its own."""
        while self._starts[member][-1] <= place:
            self._add_round()
        return bisect_right(self._starts[member], place) - 1

    def _add_round(self) -> None:
        counts = [starts[-1] for starts in self._starts]
        first = sum(counts)
        for place in range(first, first + self._round_size):
            behind = [share * (place + 1) - count for share, count in zip(self._shares, counts, strict=True)]
            counts[behind.index(max(behind))] += 1
        for starts, count in zip(self._starts, counts, strict=True):
            starts.append(count)


class _Member(PromptOrder):
    """The prompts of one environment, in rounds that a schedule cuts."""

    def __init__(self, ingredient: Ingredient, place: int, schedule: _Schedule, seed: int) -> None:
        super().__init__(
            num_prompts=ingredient.num_prompts, round_size=0, seed=seed, label=f"prompts/{ingredient.name}"
        )
        self._place = place
        self._schedule = schedule

    def window(self, index: int) -> tuple[int, int]:
        """See `PromptOrder.window`."""
        start = self._schedule.start(self._place, index)
        return start, self._schedule.start(self._place, index + 1) - start

    def begun(self, number: int) -> int:
        """See `PromptOrder.begun`."""
        first = number * self.num_prompts
        start, size = self.window(self._schedule.round_of(self._place, first))
        return first - start if size <= self.num_prompts else 0
