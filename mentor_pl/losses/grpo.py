"""The GRPO loss."""

from __future__ import annotations

import torch

from mentor_pl.errors import ConfigError
from mentor_pl.losses.base import Loss, LossInputs, LossOutput, k3


class GRPOLoss(Loss):
    """Clipped policy surrogate with a KL penalty to the reference policy, arXiv:2402.03300 eq. 3.

    The mean is over all tokens of the step, not first within each sequence (the paper's 1/|o|): long answers weigh what they weigh.
    That is how MENTOR was trained.

    Where a sampler is corrected for, each token's whole loss, penalty included, has its importance weight.

    Args:
        clip_low: A ratio under 1 - clip_low is not pushed down further.
        clip_high: A ratio over 1 + clip_high is not pushed up further.
        kl_weight: Weight of the k3 estimate of KL(policy || reference policy); 0 saves its forward pass.
    """

    def __init__(self, clip_low: float = 0.2, clip_high: float = 0.2, kl_weight: float = 0.001) -> None:
        if not 0 < clip_low < 1 or clip_high <= 0 or kl_weight < 0:
            raise ConfigError(
                f"GRPOLoss: clip_low {clip_low} must lie in (0, 1), clip_high {clip_high} above 0, "
                f"kl_weight {kl_weight} at or above 0"
            )
        self.clip_low = clip_low
        self.clip_high = clip_high
        self.kl_weight = kl_weight
        self.needs_ref_policy = kl_weight > 0
        self.needs_all_tokens = kl_weight > 0

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """See `Loss.__call__`."""
        # Trainer and sampler may disagree wildly on a token; exp() of that overflows.
        log_ratio = (inputs.logprobs - inputs.old_logprobs).clamp(-20.0, 20.0)
        ratio = torch.exp(log_ratio)
        clipped = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        token_loss = -torch.minimum(ratio * inputs.advantages, clipped * inputs.advantages)
        logprobs = inputs.logprobs.detach()
        means = {
            "clip_fraction": (ratio * inputs.advantages > clipped * inputs.advantages).float().sum(),
            "entropy": inputs.entropies.sum(),
            "sampling_kl": k3(inputs.sampling_logprobs, logprobs).sum(),
        }
        if inputs.ref_policy_logprobs is not None:
            kl = k3(inputs.logprobs, inputs.ref_policy_logprobs)
            means["kl"] = kl.detach().sum()
            token_loss = token_loss + self.kl_weight * kl
        difference = (logprobs - inputs.sampling_logprobs).abs()
        return LossOutput(
            loss=(inputs.weights * token_loss).sum() / inputs.num_loss_tokens,
            means=means,
            maxima={"logprob_difference": difference.max() if difference.numel() else difference.new_zeros(())},
        )
