"""The REINFORCE++ loss."""

from __future__ import annotations

from typing import Any, Literal

from mentor_pl.losses.grpo import GRPOLoss
from mentor_pl.losses.kl import KLEstimator


class ReinforcePlusPlusLoss(GRPOLoss):
    """PPO's clip without a critic, arXiv:2501.03262: the KL penalty (k1) is part of the reward.

    Its advantages are `BatchStandardized`: rewards are compared over the whole round, not within a
    group. Departure: the penalty is taken from the standardised advantage, not from the reward
    before it.

    Args:
        clip_low: As in `GRPOLoss`.
        clip_high: As in `GRPOLoss`.
        kl_weight: Weight of KL(policy || reference policy); 0 saves its forward pass.
        kl_estimator: As in `PolicyGradientLoss`.
        kl_in: As in `PolicyGradientLoss`.
        **settings: See `PolicyGradientLoss`.
    """

    def __init__(
        self,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        kl_weight: float = 0.001,
        kl_estimator: KLEstimator = "k1",
        kl_in: Literal["loss", "reward"] = "reward",
        **settings: Any,
    ) -> None:
        super().__init__(clip_low, clip_high, kl_weight, kl_estimator=kl_estimator, kl_in=kl_in, **settings)
