from __future__ import annotations

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from mentor_pl.training.step_totals import StepTotals


def test_sums_add_up_and_maxima_stay_until_the_step_is_over() -> None:
    totals, strategy = StepTotals(), SingleDeviceStrategy()
    totals.add({"loss": torch.tensor(0.25), "tokens": 3}, {"difference": torch.tensor(0.5)})
    totals.add({"loss": torch.tensor(-1.0), "tokens": 4}, {"difference": torch.tensor(0.125)})
    assert totals.reduce(strategy) == ({"loss": -0.75, "tokens": 7.0}, {"difference": 0.5})
    totals.add({"loss": 2.0}, {})
    assert totals.reduce(strategy) == ({"loss": 2.0}, {})
