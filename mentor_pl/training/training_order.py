"""Which order the prompts, or solutions, of a run are tried in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mentor_pl.environments import Split
from mentor_pl.guidance import Guidance
from mentor_pl.guidance.curriculum import Curriculum
from mentor_pl.rollout.runner import Prompt
from mentor_pl.training.difficulty_order import DifficultyOrder
from mentor_pl.training.mixture_order import MixtureOrder, MixtureSchedule
from mentor_pl.training.prompt_order import EqualRounds, PromptOrder, RoundWindows


def guided_order(
    splits: Sequence[Split], prompts: Sequence[Sequence[Prompt]], guidance: Guidance, *, round_size: int, seed: int
) -> PromptOrder:
    """Return the order in which prompts are tried: where difficulty decides, within each environment.

    Args:
        splits: The training environments.
        prompts: Of each.
        guidance: Says whether difficulty decides.
        round_size: Prompts of a round.
        seed: Decides the order.

    Raises:
        ConfigError: A prompt's difficulty is not known.
    """
    counts = [len(own) for own in prompts]
    if not guidance.chooses_by_difficulty:
        return shuffled_order(splits, counts, round_size=round_size, seed=seed)
    measure = (guidance.curriculum or Curriculum()).difficulty

    def order(place: int, rounds: RoundWindows, name: str) -> PromptOrder:
        return DifficultyOrder(
            difficulties=[measure(prompt) for prompt in prompts[place]],
            rounds=rounds,
            seed=seed,
            curriculum=guidance.curriculum,
            pools=guidance.difficulty_pools,
            name=name,
        )

    return _of_all(splits, order, round_size, seed)


def shuffled_order(splits: Sequence[Split], counts: Sequence[int], *, round_size: int, seed: int) -> PromptOrder:
    """Return the order of prompts, or solutions, that difficulty does not decide: shuffled passes over each environment's.

    Args:
        splits: The training environments.
        counts: Prompts, or solutions, of each.
        round_size: Of a round.
        seed: Decides the order.
    """

    def order(place: int, rounds: RoundWindows, name: str) -> PromptOrder:
        return PromptOrder(num_prompts=counts[place], rounds=rounds, seed=seed, name=name)

    return _of_all(splits, order, round_size, seed)


def _of_all(
    splits: Sequence[Split], order: Callable[[int, RoundWindows, str], PromptOrder], round_size: int, seed: int
) -> PromptOrder:
    if len(splits) == 1:
        return order(0, EqualRounds(round_size), "")
    schedule = MixtureSchedule([split.environment.weight for split in splits], round_size)
    members = {split.name: order(place, schedule.windows(place), split.name) for place, split in enumerate(splits)}
    return MixtureOrder(members, schedule=schedule, round_size=round_size, seed=seed)
