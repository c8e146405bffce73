"""What an optimiser step reports, whatever it was split into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

Values = Mapping[str, Tensor | float]
"""Values by name. Names are free text; nothing reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """What one micro-batch of one rank reports; nothing here requires a gradient.

    Attributes:
        num_tokens: Trained tokens.
        token_sums: Per-token values, each summed over these tokens. The step reports their mean
            over all its tokens.
        rank_means: Values that a rank reports in one of its micro-batches. The step reports their
            mean over the ranks.
        sums: The step reports their sum.
        sums_and_counts: Values that a rank reports in one of its micro-batches, each as a sum and
            the number of values. The step reports their mean over all ranks, and none where there
            is no value.
        maxima: The step reports their maximum.
    """

    num_tokens: int
    token_sums: Values = field(default_factory=dict)
    rank_means: Values = field(default_factory=dict)
    sums: Values = field(default_factory=dict)
    sums_and_counts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    maxima: Mapping[str, Tensor] = field(default_factory=dict)


class _Kind(Enum):
    TOKENS = auto()
    TOKEN_MEAN = auto()
    RANK_MEAN = auto()
    SUM = auto()
    COUNTED = auto()
    COUNT = auto()


class StepTotals:
    """Puts the micro-batches of one optimiser step together, over micro-batches and then over ranks.

    The names are the same on every rank. Thus one reduction is enough for all sums and one for all
    maxima.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[_Kind, str], Tensor | float] = {}
        self._maxima: dict[str, Tensor] = {}

    def add(self, metrics: StepMetrics) -> None:
        """Count a micro-batch in."""
        self._add(_Kind.TOKENS, {"": metrics.num_tokens})
        self._add(_Kind.TOKEN_MEAN, metrics.token_sums)
        self._add(_Kind.RANK_MEAN, metrics.rank_means)
        self._add(_Kind.SUM, metrics.sums)
        self._add(_Kind.COUNTED, {name: total for name, (total, _) in metrics.sums_and_counts.items()})
        self._add(_Kind.COUNT, {name: count for name, (_, count) in metrics.sums_and_counts.items()})
        for name, value in metrics.maxima.items():
            self._maxima[name] = torch.maximum(self._maxima.get(name, value), value)

    def reduce(self, strategy: Strategy, *, world_size: int) -> dict[str, float]:
        """Return the step's values by name, and start anew. All ranks call this together."""
        sums = dict(zip(self._sums, _reduced(list(self._sums.values()), strategy, "sum"), strict=True))
        values = dict(zip(self._maxima, _reduced(list(self._maxima.values()), strategy, "max"), strict=True))
        tokens = max(1.0, sums.get((_Kind.TOKENS, ""), 0.0))
        divisor = {_Kind.TOKEN_MEAN: tokens, _Kind.RANK_MEAN: world_size, _Kind.SUM: 1}
        for (kind, name), value in sums.items():
            if kind is _Kind.COUNTED and (count := sums[_Kind.COUNT, name]):
                values[name] = value / count
            elif kind in divisor:
                values[name] = value / divisor[kind]
        self._sums, self._maxima = {}, {}
        return values

    def _add(self, kind: _Kind, values: Values) -> None:
        for name, value in values.items():
            self._sums[kind, name] = self._sums.get((kind, name), 0.0) + value


def _reduced(values: list[Tensor | float], strategy: Strategy, operation: str) -> list[float]:
    if not values:
        return []
    device = strategy.root_device
    dtype = (
        torch.float32 if device.type == "mps" else torch.float64
    )  # sums of a long rollout are large; MPS has no float64
    row = torch.stack([torch.as_tensor(value, dtype=dtype, device=device) for value in values])
    return strategy.reduce(row, reduce_op=operation).tolist()
