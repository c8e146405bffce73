"""Which of two lists' members are paired, so that the pairs are worth most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

Worths = Sequence[Sequence[float]]
"""What a pair is worth: a row for each member of the one list, a column for each of the other."""


def best_in_order(worth: Worths) -> float:
    """Return the largest sum over pairs that keep the order of both lists (a weighted longest common subsequence)."""
    best = [0.0] * (len(worth[0]) + 1 if worth else 1)
    for row in worth:
        diagonal = 0.0
        for index, value in enumerate(row, start=1):
            best[index], diagonal = max(diagonal + value, best[index], best[index - 1]), best[index]
    return best[-1]


def best_in_any_order(worth: Worths) -> float:
    """Return the largest sum over pairs in any order (the assignment problem)."""
    if not worth or not worth[0]:
        return 0.0
    import numpy as np
    from scipy.optimize import linear_sum_assignment  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    table = np.asarray(worth)
    rows, columns = cast(Any, linear_sum_assignment)(table, maximize=True)
    return float(table[rows, columns].sum())
