"""The GRPO loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mentor_pl.losses.base import LossInputs
from mentor_pl.losses.policy_gradient import PolicyGradientLoss, check_clips, clipped_surrogate


class GRPOLoss(PolicyGradientLoss):
    """Clipped policy surrogate with a KL penalty to the reference policy, arXiv:2402.03300 eq. 3.

    Token loss: -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + kl_weight KL, with r = policy /
        old policy.

    By default the mean is over all tokens of the step, not first within each sequence (the paper's
    1/|o|): long answers weigh what they weigh. That is how MENTOR was trained. `aggregation:
    sequence_mean` is the paper's.

    Args:
        clip_low: A ratio under 1 - clip_low is not pushed down further.
        clip_high: A ratio over 1 + clip_high is not pushed up further.
        kl_weight: Weight of KL(policy || reference policy); 0 saves its forward pass.
        **settings: See `PolicyGradientLoss`.
    """

    def __init__(
        self, clip_low: float = 0.2, clip_high: float = 0.2, kl_weight: float = 0.001, **settings: Any
    ) -> None:
        check_clips(self, clip_low, clip_high)
        super().__init__(kl_weight=kl_weight, **settings)
        self.clip_low = clip_low
        self.clip_high = clip_high

    def surrogate(self, log_ratio: Tensor, advantages: Tensor, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """See `PolicyGradientLoss.surrogate`."""
        return clipped_surrogate(log_ratio, advantages, self.clip_low, self.clip_high)
