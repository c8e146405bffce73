"""Advantages that are compared over a whole round, of all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from mentor_pl.training.rounds import Round
from mentor_pl.training.samples import Sample, Source


def standardized_over_round(
    drawn: Round,
    environments: Sequence[str],
    sums_over_ranks: Callable[[Sequence[float]], Sequence[float]],
) -> list[list[Sample]]:
    """Bring the advantages of all trajectories of a round, of each environment by itself, to mean 0 and standard deviation 1.

    A trajectory counts once, by the mean of its tokens' advantages. Rewards of several environments
    have scales of their own, so that these are not compared.

    Args:
        drawn: This rank's prompts.
        environments: Names of all environments of the run, as references carry them.
        sums_over_ranks: Adds up each of several values over all ranks, which call this together.
    """
    of_prompts = [scored.group.references[0].environment for scored in drawn.scored_groups]
    values: dict[str, list[float]] = {name: [] for name in environments}
    for environment, group in zip(of_prompts, drawn.samples, strict=True):
        values[environment] += [_advantage(sample) for sample in group if sample.source is not Source.IMITATED]
    sums = iter(
        sums_over_ranks([s for v in values.values() for s in (len(v), math.fsum(v), math.fsum(x * x for x in v))])
    )
    scales = {name: _mean_and_std(next(sums), next(sums), next(sums)) for name in environments}
    return [
        [sample if sample.source is Source.IMITATED else _scaled(sample, *scales[environment]) for sample in group]
        for environment, group in zip(of_prompts, drawn.samples, strict=True)
    ]


def _mean_and_std(count: float, total: float, squares: float) -> tuple[float, float]:
    mean = total / max(count, 1)
    variance = max(0.0, squares - count * mean * mean) / max(count - 1, 1)
    # Rounding of the mean must not look like a signal, and the spread of equal values not like a divisor.
    mean = 0.0 if abs(mean) < 1e-6 else mean
    return mean, max(math.sqrt(variance), 1e-6)


def _scaled(sample: Sample, mean: float, std: float) -> Sample:
    return replace(sample, advantages=(sample.advantages - mean) / std * sample.loss_mask)


def _advantage(sample: Sample) -> float:
    trained = sample.advantages[sample.loss_mask].double()
    return float(trained.mean()) if trained.numel() else 0.0
