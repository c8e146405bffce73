"""The Dr. GRPO loss."""

from __future__ import annotations

from typing import Any

from mentor_pl.losses.aggregation import Aggregation
from mentor_pl.losses.grpo import GRPOLoss


class DrGRPOLoss(GRPOLoss):
    """GRPO without its two biases, arXiv:2503.20783 (figure 1): the divisor is a constant, and there is no KL penalty.

    Loss: sum of all token losses of the step / (trajectories of the step * max_tokens). Its
        advantages are `GroupCentered`.

    Args:
        max_tokens: The most tokens that a trajectory may have: `data.limits.max_completion_tokens`.
        clip_low: As in `GRPOLoss`.
        clip_high: As in `GRPOLoss`.
        kl_weight: As in `GRPOLoss`.
        aggregation: As in `PolicyGradientLoss`.
        **settings: See `PolicyGradientLoss`.
    """

    def __init__(
        self,
        max_tokens: int,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        kl_weight: float = 0.0,
        aggregation: Aggregation = "constant",
        **settings: Any,
    ) -> None:
        super().__init__(clip_low, clip_high, kl_weight, aggregation=aggregation, max_tokens=max_tokens, **settings)
