"""The DAPO loss."""

from __future__ import annotations

from typing import Any

from mentor_pl.losses.grpo import GRPOLoss


class DAPOLoss(GRPOLoss):
    """GRPO with a higher upper clip, the mean over tokens, and no KL penalty, arXiv:2503.14476 eq. 8.

    The higher clip lets unlikely tokens grow, which keeps the entropy up. The paper's other parts:
    dynamic sampling; `Overlong` as a reward term (soft overlong punishment);
    `data.round.mask_truncated` (overlong filtering).

    Args:
        clip_low: A ratio under 1 - clip_low is not pushed down further.
        clip_high: A ratio over 1 + clip_high is not pushed up further.
        kl_weight: As in `GRPOLoss`.
        **settings: See `PolicyGradientLoss`.
    """

    def __init__(self, clip_low: float = 0.2, clip_high: float = 0.28, kl_weight: float = 0.0, **settings: Any) -> None:
        super().__init__(clip_low, clip_high, kl_weight, **settings)
