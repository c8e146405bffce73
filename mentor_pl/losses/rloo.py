"""The RLOO loss."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from mentor_pl.losses.aggregation import Aggregation
from mentor_pl.losses.base import LossInputs
from mentor_pl.losses.kl import KLEstimator
from mentor_pl.losses.policy_gradient import PolicyGradientLoss, check_clips, clipped_surrogate
from mentor_pl.losses.trajectory_sums import trajectory_sum


class RLOOLoss(PolicyGradientLoss):
    """REINFORCE with whole sequences as actions, arXiv:2402.14740 eq. 6: mean over trajectories of -r_i A_i.

    r_i = exp(sum over i's tokens of log(policy / old policy)), clipped as in PPO; in a round of one
    step r_i is 1 and the gradient is A_i grad log p_i. Its advantages are `LeaveOneOut`, and its KL
    penalty belongs to the reward.

    Args:
        clip_low: A sequence whose ratio is under 1 - clip_low is not pushed down further.
        clip_high: A sequence whose ratio is over 1 + clip_high is not pushed up further.
        kl_weight: Weight of KL(policy || reference policy); 0 saves its forward pass.
        kl_estimator: As in `PolicyGradientLoss`.
        kl_in: As in `PolicyGradientLoss`.
        aggregation: As in `PolicyGradientLoss`.
        **settings: See `PolicyGradientLoss`.
    """

    def __init__(
        self,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        kl_weight: float = 0.0,
        kl_estimator: KLEstimator = "k1",
        kl_in: Literal["loss", "reward"] = "reward",
        aggregation: Aggregation = "sequence_mean",
        **settings: Any,
    ) -> None:
        check_clips(self, clip_low, clip_high)
        super().__init__(
            kl_weight=kl_weight, kl_estimator=kl_estimator, kl_in=kl_in, aggregation=aggregation, **settings
        )
        self.clip_low = clip_low
        self.clip_high = clip_high

    def surrogate(self, log_ratio: Tensor, advantages: Tensor, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """See `PolicyGradientLoss.surrogate`."""
        ratio = trajectory_sum(log_ratio, inputs.trajectory_index).clamp(-20.0, 20.0)
        return clipped_surrogate(ratio, advantages, self.clip_low, self.clip_high)
