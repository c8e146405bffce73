"""What an optimiser step reports, whatever it was split into."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor


class StepTotals:
    """Puts together what the micro-batches of one optimiser step report, over micro-batches and then over ranks.

    The names are the same on every rank, which takes one reduction for all sums and one for all maxima.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._maxima: dict[str, Tensor] = {}

    def add(self, sums: Mapping[str, Tensor | float], maxima: Mapping[str, Tensor]) -> None:
        """Count a micro-batch in; nothing given may require a gradient."""
        for name, value in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        for name, value in maxima.items():
            self._maxima[name] = torch.maximum(self._maxima.get(name, value), value)

    def reduce(self, strategy: Strategy) -> tuple[dict[str, float], dict[str, float]]:
        """Return sums and maxima over all ranks, and start anew. All ranks call this together."""
        totals = _reduced(self._sums, strategy, "sum"), _reduced(self._maxima, strategy, "max")
        self._sums, self._maxima = {}, {}
        return totals


def _reduced(values: Mapping[str, Tensor | float], strategy: Strategy, operation: str) -> dict[str, float]:
    if not values:
        return {}
    device = strategy.root_device
    row = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device) for value in values.values()])
    return dict(zip(values, strategy.reduce(row, reduce_op=operation).tolist(), strict=True))
