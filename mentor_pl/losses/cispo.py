"""The CISPO loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mentor_pl.errors import ConfigError
from mentor_pl.losses.base import LossInputs
from mentor_pl.losses.policy_gradient import PolicyGradientLoss


class CISPOLoss(PolicyGradientLoss):
    """Clips the importance weight, not the update, arXiv:2506.13585 eq. 4: every token keeps a gradient.

    Token loss: -min(r, max_ratio) A log p, with no gradient through min(r, max_ratio); mean over
        the step's tokens.

    Args:
        max_ratio: The most that a token's ratio counts for; above 1.
        kl_weight: Weight of KL(policy || reference policy); 0 saves its forward pass.
        **settings: See `PolicyGradientLoss`.
    """

    def __init__(self, max_ratio: float = 5.0, kl_weight: float = 0.0, **settings: Any) -> None:
        if max_ratio <= 1:
            raise ConfigError(f"CISPOLoss: max_ratio {max_ratio} must be above 1")
        super().__init__(kl_weight=kl_weight, **settings)
        self.max_ratio = max_ratio

    def surrogate(self, log_ratio: Tensor, advantages: Tensor, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """See `PolicyGradientLoss.surrogate`."""
        ratio = log_ratio.detach().exp()
        clipped = (ratio > self.max_ratio) & (advantages > 0)
        return -ratio.clamp(max=self.max_ratio) * advantages * inputs.logprobs, clipped
