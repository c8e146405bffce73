from __future__ import annotations

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from mentor_pl.training.step_metrics import StepMetrics, StepTotals


def test_each_kind_of_value_is_put_together_in_its_own_way() -> None:
    totals, strategy = StepTotals(), SingleDeviceStrategy()
    totals.add(
        StepMetrics(
            num_tokens=3,
            token_sums={"kl": torch.tensor(1.5)},
            rank_means={"reward": 0.5},
            sums={"loss": torch.tensor(0.25)},
            maxima={"difference": torch.tensor(0.5)},
        )
    )
    totals.add(
        StepMetrics(
            num_tokens=5,
            token_sums={"kl": torch.tensor(2.5)},
            sums={"loss": torch.tensor(-1.0)},
            maxima={"difference": torch.tensor(0.125)},
        )
    )
    values = totals.reduce(strategy, world_size=2)
    # kl: (1.5 + 2.5) / 8 tokens; reward: 0.5 here and nothing on a second rank.
    assert values == {"kl": 0.5, "reward": 0.25, "loss": -0.75, "difference": 0.5}


def test_a_step_starts_anew() -> None:
    totals, strategy = StepTotals(), SingleDeviceStrategy()
    totals.add(StepMetrics(num_tokens=4, sums={"loss": 1.0}))
    totals.reduce(strategy, world_size=1)
    totals.add(StepMetrics(num_tokens=0, token_sums={"kl": 0.0}, sums={"loss": 2.0}))
    assert totals.reduce(strategy, world_size=1) == {"kl": 0.0, "loss": 2.0}


def test_names_are_free_text() -> None:
    totals, strategy = StepTotals(), SingleDeviceStrategy()
    names = {"score/tool match": 0.25, "score/exact match": 0.75, "score/mean match": 0.5}
    totals.add(StepMetrics(num_tokens=2, token_sums={"match": 1.0}, rank_means=names))
    assert totals.reduce(strategy, world_size=1) == {**names, "match": 0.5}
