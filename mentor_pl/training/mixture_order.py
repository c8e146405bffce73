"""The order in which the prompts of several environments are tried."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil, fsum
from typing import Any

from mentor_pl.environments import Split
from mentor_pl.errors import ConfigError
from mentor_pl.training.prompt_order import EqualRounds, PromptOrder, RoundWindows


class MixtureOrder(PromptOrder):
    """An endless sequence of rounds in which every environment has its share, and goes through its own prompts in its own order.

    After any number of places every environment has had its share of them to within one or two.
    Within a round the places are shuffled, so that steps and ranks get mixtures, too. Which places
    are whose depends on the seed and the round alone.

    Args:
        members: The order of each environment by its name, in rounds of `schedule`. Their prompts
            are numbered one after the other.
        schedule: Cuts the rounds of the members, in order.
        round_size: Prompts of a round.
        seed: Decides the places.
    """

    def __init__(
        self, members: Mapping[str, PromptOrder], *, schedule: MixtureSchedule, round_size: int, seed: int
    ) -> None:
        counts = [member.num_prompts for member in members.values()]
        super().__init__(num_prompts=sum(counts), rounds=EqualRounds(round_size), seed=seed)
        self.is_adaptive = any(member.is_adaptive for member in members.values())
        self._members = members
        self._windows = [schedule.windows(place) for place in range(len(members))]
        self._offsets = list(accumulate(counts[:-1], initial=0))

    def round(self, index: int) -> list[int]:
        """See `PromptOrder.round`."""
        drawn = [iter(member.round(index)) for member in self._members.values()]
        places = [place for place, windows in enumerate(self._windows) for _ in range(windows.window(index)[1])]
        random.Random(f"{self._seed}/mixture/{index}").shuffle(places)
        return [self._offsets[place] + next(drawn[place]) for place in places]

    def note(self, index: int, shares: Mapping[int, float]) -> None:
        """See `PromptOrder.note`."""
        for first, member in zip(self._offsets, self._members.values(), strict=True):
            own = range(first, first + member.num_prompts)
            member.note(index, {i - first: share for i, share in shares.items() if i in own})

    def metrics(self) -> dict[str, float]:
        """Return those of every environment, as `<environment>/<name>`."""
        return {
            f"{name}/{key}": value for name, member in self._members.items() for key, value in member.metrics().items()
        }

    def state(self, next_round: int) -> dict[str, list[Any]]:
        """See `PromptOrder.state`."""
        return {
            f"{name}/{key}": values
            for name, member in self._members.items()
            for key, values in member.state(next_round).items()
        }

    def load_state(self, state: Mapping[str, list[Any]]) -> None:
        """See `PromptOrder.load_state`."""
        for name, member in self._members.items():
            start = f"{name}/"
            member.load_state({key.removeprefix(start): row for key, row in state.items() if key.startswith(start)})


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
                f"data.round.prompts_per_round is {what}, but there are {count} prompts to train on, and a prompt tried "
                "twice in a round gives the same samples twice; lower it, or give more references"
            )


def prompts_in_a_round(weights: Sequence[float], round_size: int) -> list[int]:
    """Return how many prompts of each environment a round has, rounded up."""
    total = fsum(weights)
    return [ceil(round(weight / total * round_size, 6)) for weight in weights]


class MixtureSchedule:
    """How many places each environment has had before each round: a place goes to the one that is farthest behind.

    Args:
        weights: Share of each environment, relative to the others.
        round_size: Places of a round.
    """

    def __init__(self, weights: Sequence[float], round_size: int) -> None:
        total = fsum(weights)
        self._shares = [weight / total for weight in weights]
        self._round_size = round_size
        self._starts = [[0] for _ in weights]

    def windows(self, member: int) -> RoundWindows:
        """Return the rounds of one environment."""
        return _OfMember(self, member)

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


class _OfMember(RoundWindows):
    """A schedule's rounds, as one environment sees them."""

    def __init__(self, schedule: MixtureSchedule, member: int) -> None:
        self._schedule = schedule
        self._member = member

    def window(self, index: int) -> tuple[int, int]:
        """See `RoundWindows.window`."""
        start = self._schedule.start(self._member, index)
        return start, self._schedule.start(self._member, index + 1) - start

    def round_of(self, place: int) -> int:
        """See `RoundWindows.round_of`."""
        return self._schedule.round_of(self._member, place)
