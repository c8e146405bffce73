"""Advantages that are compared over a whole round, of all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from mentor_pl.training.samples import Sample, Source


def standardized_over_round(
    samples: Sequence[Sequence[Sample]], sums_over_ranks: Callable[[Sequence[float]], Sequence[float]]
) -> list[list[Sample]]:
    """Bring the advantages of all trajectories of a round to mean 0 and standard deviation 1.

    A trajectory counts once, by the mean of its tokens' advantages.

    Args:
        samples: Of each prompt of this rank.
        sums_over_ranks: Adds up each of several values over all ranks, which call this together.
    """
    values = [_advantage(sample) for group in samples for sample in group if sample.source is not Source.IMITATED]
    count, total, squares = sums_over_ranks([len(values), math.fsum(values), math.fsum(v * v for v in values)])
    mean = total / max(count, 1)
    variance = max(0.0, squares - count * mean * mean) / max(count - 1, 1)
    # Rounding of the mean must not look like a signal, and the spread of equal values not like a divisor.
    mean = 0.0 if abs(mean) < 1e-6 else mean
    std = max(math.sqrt(variance), 1e-6)
    return [
        [
            sample
            if sample.source is Source.IMITATED
            else replace(sample, advantages=(sample.advantages - mean) / std * sample.loss_mask)
            for sample in group
        ]
        for group in samples
    ]


def _advantage(sample: Sample) -> float:
    trained = sample.advantages[sample.loss_mask].double()
    return float(trained.mean()) if trained.numel() else 0.0
