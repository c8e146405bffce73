"""The GSPO loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mentor_pl.losses.aggregation import Aggregation
from mentor_pl.losses.base import LossInputs
from mentor_pl.losses.policy_gradient import PolicyGradientLoss, check_clips, clipped_surrogate
from mentor_pl.losses.trajectory_sums import trajectory_mean


class GSPOLoss(PolicyGradientLoss):
    """Clips whole sequences by the geometric mean of their tokens' ratios, arXiv:2507.18071 eq. 5 and 7.

    s_i = exp(mean over i's tokens of log(policy / old policy)); loss: mean over trajectories of
    -min(s A, clip(s) A). A trajectory's sampled tokens of all its turns are the sequence.

    Args:
        clip_low: A sequence whose ratio is under 1 - clip_low is not pushed down further.
        clip_high: A sequence whose ratio is over 1 + clip_high is not pushed up further.
        kl_weight: Weight of KL(policy || reference policy); 0 saves its forward pass.
        aggregation: As in `PolicyGradientLoss`.
        **settings: See `PolicyGradientLoss`.
    """

    def __init__(
        self,
        clip_low: float = 3e-4,
        clip_high: float = 4e-4,
        kl_weight: float = 0.0,
        aggregation: Aggregation = "sequence_mean",
        **settings: Any,
    ) -> None:
        check_clips(self, clip_low, clip_high)
        super().__init__(kl_weight=kl_weight, aggregation=aggregation, **settings)
        self.clip_low = clip_low
        self.clip_high = clip_high

    def surrogate(self, log_ratio: Tensor, advantages: Tensor, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """See `PolicyGradientLoss.surrogate`."""
        ratio = trajectory_mean(log_ratio, inputs.trajectory_index)
        return clipped_surrogate(ratio, advantages, self.clip_low, self.clip_high)
