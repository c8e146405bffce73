"""The order of prompts where their difficulty decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mentor_pl.guidance.curriculum import Curriculum
from mentor_pl.guidance.difficulty_pools import UNSEEN, DifficultyPools
from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.training.comparison import GroupComparison
from mentor_pl.training.prompt_order import PromptOrder, RoundWindows


class DifficultyOrder(PromptOrder):
    """Chooses each round's prompts among those that are open, those first that were not tried for longest.

    A round depends on the seed, its number and what earlier rounds came to, which every rank knows;
    it has a state, so that a resumed run goes on alike.

    Args:
        difficulties: Of every prompt; what counts is their order.
        rounds: Places of each round.
        seed: Decides among those that are equally due.
        curriculum: Opens the prompts; all are open without it.
        pools: Divides a round among them; without it, only who is due counts.
        name: See `PromptOrder`.
    """

    is_adaptive = True

    def __init__(
        self,
        *,
        difficulties: Sequence[float],
        rounds: RoundWindows,
        seed: int,
        curriculum: Curriculum | None,
        pools: DifficultyPools | None,
        name: str = "",
    ) -> None:
        super().__init__(num_prompts=len(difficulties), rounds=rounds, seed=seed, name=name)
        self._curriculum = curriculum
        self._pools = pools
        shuffled = list(range(len(difficulties)))
        # Prompts of one difficulty stand in no order of the file's.
        random.Random(f"{seed}/difficulty{self._suffix}").shuffle(shuffled)
        self._easiest_first = sorted(shuffled, key=difficulties.__getitem__)
        self._rates = [UNSEEN] * len(difficulties)
        self._last_tried = [-1] * len(difficulties)
        self._before = self._state()
        self._noted = -1
        self._chosen: tuple[int, list[int]] = (-1, [])

    def round(self, index: int) -> list[int]:
        """Return the indices of a round's prompts, once all rounds before it are noted."""
        if self._chosen[0] != index:
            self._chosen = index, self._choose(index)
        return list(self._chosen[1])

    def _choose(self, index: int) -> list[int]:
        start, size = self._rounds.window(index)
        num_open = len(self._rates)
        if self._curriculum is not None:
            num_open = max(size, self._curriculum.num_open(num_open, index))
        order = self._easiest_first[:num_open]
        random.Random(f"{self._seed}/prompts{self._suffix}/{index}").shuffle(order)
        order.sort(key=self._last_tried.__getitem__)
        if self._pools is None:
            return order[:size]
        chosen = self._pools.chosen(self._rates, order, num_places=size, places_before=start)
        # No step of the round has the failing ones alone.
        random.Random(f"{self._seed}/places{self._suffix}/{index}").shuffle(chosen)
        return chosen

    def note(self, index: int, shares: Mapping[int, float]) -> None:
        """Note what a round came to; every rank notes the same.

        Args:
            index: The round.
            shares: Share of successes of each prompt whose group could be told.
        """
        self._before, self._noted = self._state(), index
        for prompt in {*self.round(index), *shares}:
            self._last_tried[prompt] = index
        if self._pools is not None:
            for prompt, share in shares.items():
                self._rates[prompt] = self._pools.updated(self._rates[prompt], share)

    def metrics(self) -> dict[str, float]:
        """Return the share of all prompts that is in the pools `failed` and `solved`, and that was never tried."""
        if self._pools is None:
            return {}
        count, unseen = len(self._rates), self._rates.count(UNSEEN)
        failed = sum(rate < self._pools.failed_below for rate in self._rates) - unseen
        solved = sum(rate > self._pools.solved_above for rate in self._rates)
        return {"pool/failed": failed / count, "pool/solved": solved / count, "pool/unseen": unseen / count}

    def state(self, next_round: int) -> dict[str, list[Any]]:
        """See `PromptOrder.state`."""
        return self._before if self._noted == next_round else self._state()

    def load_state(self, state: Mapping[str, list[Any]]) -> None:
        """See `PromptOrder.load_state`."""
        if not state:  # the checkpoint is of a run in which difficulty did not decide
            return
        self._rates, self._last_tried = list(state["rates"]), list(state["last_tried"])
        self._before, self._noted = self._state(), -1
        self._chosen = (-1, [])

    def _state(self) -> dict[str, list[Any]]:
        return {"rates": list(self._rates), "last_tried": list(self._last_tried)}


def success_shares(
    groups: Sequence[ScoredGroup], comparison: GroupComparison, index_of: Mapping[str, int]
) -> list[tuple[int, float]]:
    """Return the prompt and the share of successes of each group in which it could be told.

    Args:
        groups: Of this rank.
        comparison: Knows what a success is.
        index_of: A prompt's index, by the id of its first reference.
    """
    shares = ((scored, comparison.success_share(scored)) for scored in groups)
    return [(index_of[s.group.references[0].reference_id], share) for s, share in shares if share is not None]


def over_ranks(
    shares: Sequence[tuple[int, float]], num_prompts: int, sums_over_ranks: Callable[[Sequence[float]], list[float]]
) -> dict[int, float]:
    """Return the share of successes of each prompt that some rank tried. All ranks call this together."""
    sums, counts = [0.0] * num_prompts, [0.0] * num_prompts
    for prompt, share in shares:
        sums[prompt] += share
        counts[prompt] += 1
    totals = sums_over_ranks(sums + counts)
    return {i: totals[i] / totals[num_prompts + i] for i in range(num_prompts) if totals[num_prompts + i]}
