"""Success over several attempts at each problem: mean@k, pass@k and pass^k, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from scipy.stats import t as student_t
from torch import Tensor
from torchmetrics import Metric

_CONFIDENCE = 0.95


def pass_at(n: int, c: int, k: int) -> float:
    """Return the probability that at least one of k attempts succeeds, estimated from n of which c did.

    The unbiased estimator of Chen et al. 2021, arXiv:2107.03374, section 2.1: 1 - C(n - c, k) /
    C(n, k).
    """
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_hat(n: int, c: int, k: int) -> float:
    """Return the probability that k attempts all succeed, estimated from n of which c did.

    pass^k of tau-bench, arXiv:2406.12045, section 5.1, unbiased: C(c, k) / C(n, k).
    """
    return math.comb(c, k) / math.comb(n, k)


def half_width(total: float, squares: float, number: int) -> float | None:
    """Return the half-width of the 95 % confidence interval of a mean over problems, by Student's t.

    Problems are drawn independently and attempts at one problem are not, so the spread between
    problems is what counts (clustered standard errors, Miller 2024, arXiv:2411.00640, section 2.2).

    Departs from Student's t where every problem has the value 0, or every one 1: there it would be
    0 wide, and the exact binomial bound stands instead (Clopper and Pearson 1934), 1 -
    0.025^(1/number).

    Args:
        total: Sum of the problems' values, each in [0, 1].
        squares: Sum of their squares.
        number: How many there are.

    Returns:
        The half-width; None for fewer than two problems.
    """
    if number < 2:
        return None
    mean = total / number
    tail = (1 - _CONFIDENCE) / 2
    if mean < 1e-12 or mean > 1 - 1e-12:
        return 1 - tail ** (1 / number)
    variance = max(squares - number * mean**2, 0.0) / (number - 1)
    return float(student_t.ppf(1 - tail, number - 1)) * math.sqrt(variance / number)


class SuccessRates(Metric):
    """Success where each problem is attempted several times; correct across ranks.

    `compute` gives, with n attempts, `mean@n`: mean score; `pass@k`: at least one of k succeeds;
    `pass^k`: all k succeed; for k = 2, 4, 8, ... below n, and n. Behind each, as `.../interval`,
    the half-width of its 95 % interval where there are two problems or more. An attempt succeeds
    where its score is 1. An attempt without a score does not count; a problem with fewer than k
    attempts left does not count for k.

    Args:
        samples: Attempts at each problem (n), at least 2.
        **settings: Of every torchmetrics metric, for example `sync_on_compute`.
    """

    full_state_update = False

    sums: Tensor
    squares: Tensor
    counts: Tensor

    def __init__(self, samples: int, **settings: Any) -> None:
        super().__init__(**settings)
        ks = [2**power for power in range(1, samples.bit_length()) if 2**power < samples] + [samples]
        self._measures = (f"mean@{samples}", *(f"{kind}{k}" for kind in ("pass@", "pass^") for k in ks))
        self._ks = tuple(ks)
        for name in ("sums", "squares", "counts"):
            self.add_state(name, torch.zeros(len(self._measures), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, problems: Iterable[Sequence[float]]) -> None:
        """Count problems in, each by the success scores of its attempts, in [0, 1]; nan where there is none."""
        for scores in problems:
            told = [score for score in scores if not math.isnan(score)]
            n, c = len(told), sum(score > 1 - 1e-9 for score in told)
            values = [sum(told) / n if n else math.nan]
            values += [rate(n, c, k) if k <= n else math.nan for rate in (pass_at, pass_hat) for k in self._ks]
            row = torch.tensor(values, dtype=torch.float64, device=self.sums.device)
            self.sums += row.nan_to_num(0.0)
            self.squares += row.nan_to_num(0.0) ** 2
            self.counts += row.isfinite()

    def compute(self) -> dict[str, Tensor]:
        """Return the rates by name, those for which there was a problem; see the class."""
        out: dict[str, Tensor] = {}
        for place, name in enumerate(self._measures):
            total, squares = float(self.sums[place]), float(self.squares[place])
            if number := int(self.counts[place]):
                out[name] = torch.tensor(total / number)
                if (width := half_width(total, squares, number)) is not None:
                    out[f"{name}/interval"] = torch.tensor(width)
        return out
