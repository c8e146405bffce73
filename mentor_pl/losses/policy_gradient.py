"""What all losses on the student's own samples have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from mentor_pl.errors import ConfigError
from mentor_pl.losses.aggregation import Aggregation, aggregate
from mentor_pl.losses.base import Loss, LossInputs, LossOutput
from mentor_pl.losses.covariance_clip import CovarianceClip
from mentor_pl.losses.entropy import EntropyBonus, EntropyWeight
from mentor_pl.losses.kl import KL_ESTIMATORS, KLEstimator, k3
from mentor_pl.losses.trajectory_sums import sum_to_go


class PolicyGradientLoss(Loss):
    """A surrogate of each token, a KL penalty, an entropy bonus, and how tokens are put together.

    Where a sampler is corrected for, each token's surrogate and penalty have its importance weight.

    Args:
        kl_weight: Weight of KL(policy || reference policy); 0 saves its forward pass.
        kl_estimator: `k1`, `k2` or `k3`; see `mentor_pl.losses.kl`. In a loss, `k1` penalises
            nothing: its gradient has mean 0.
        kl_in: `loss` adds the penalty to each token's loss. `reward` takes it from the advantages:
            from each token's the sum of the penalties from it to the end of its trajectory, under
            the policy at the start of the round (arXiv:2501.03262 eq. 7).
        aggregation: `token_mean`, `sequence_mean` or `constant`; see
            `mentor_pl.losses.aggregation.aggregate`.
        max_tokens: For `constant`, the divisor: the most tokens that a trajectory may have,
            `data.limits.max_completion_tokens`.
        entropy: A bonus for entropy.
        covariance_clip: Leaves out the tokens that lower the entropy most.
    """

    def __init__(
        self,
        kl_weight: float = 0.0,
        kl_estimator: KLEstimator = "k3",
        kl_in: Literal["loss", "reward"] = "loss",
        aggregation: Aggregation = "token_mean",
        max_tokens: int | None = None,
        entropy: EntropyBonus | None = None,
        covariance_clip: CovarianceClip | None = None,
    ) -> None:
        if kl_weight < 0:
            raise ConfigError(f"{type(self).__name__}: kl_weight {kl_weight} must be at or above 0")
        if aggregation == "constant" and (max_tokens is None or max_tokens < 1):
            raise ConfigError(
                f"{type(self).__name__}: aggregation is 'constant' but max_tokens is {max_tokens}; set it to "
                "data.limits.max_completion_tokens"
            )
        self.kl_weight = kl_weight
        self.kl_estimator: KLEstimator = kl_estimator
        self.kl_in = kl_in
        self.aggregation: Aggregation = aggregation
        self.max_tokens = max_tokens
        self.entropy_weight = None if entropy is None else EntropyWeight(entropy)
        self.covariance_clip = covariance_clip
        self.needs_ref_policy = kl_weight > 0
        self.needs_entropy_gradient = entropy is not None
        self.needs_all_tokens = kl_weight > 0 or entropy is not None

    @abstractmethod
    def surrogate(self, log_ratio: Tensor, advantages: Tensor, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Return the loss of each token and whether its update is clipped, each [N].

        Args:
            log_ratio: Log of the trained policy's probability over the old one's, with gradient,
                [N].
            advantages: [N].
            inputs: All that is known of the tokens.
        """

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """See `Loss.__call__`."""
        estimate = KL_ESTIMATORS[self.kl_estimator]
        reference, advantages = inputs.ref_policy_logprobs, inputs.advantages
        if reference is not None and self.kl_in == "reward":
            penalties = estimate(inputs.old_logprobs, reference)
            advantages = advantages - self.kl_weight * sum_to_go(penalties, inputs.trajectory_index)
        # Trainer and sampler may disagree wildly on a token; exp() of that overflows.
        log_ratio = (inputs.logprobs - inputs.old_logprobs).clamp(-20.0, 20.0)
        token_loss, clipped = self.surrogate(log_ratio, advantages, inputs)
        if self.covariance_clip is not None:
            left_out = self.covariance_clip.left_out(inputs)
            token_loss, clipped = token_loss.where(~left_out, token_loss.detach()), clipped | left_out
        logprobs = inputs.logprobs.detach()
        means = {
            "clip_fraction": clipped.float().sum(),
            "entropy": inputs.entropies.detach().sum(),
            "sampling_kl": k3(inputs.sampling_logprobs, logprobs).sum(),
        }
        if reference is not None:
            kl = estimate(inputs.logprobs, reference)
            means["kl"] = kl.detach().sum()
            if self.kl_in == "loss":
                token_loss = token_loss + self.kl_weight * kl
        loss = self.combine(inputs.weights * token_loss, inputs)
        difference = (logprobs - inputs.sampling_logprobs).abs()
        maxima = {"logprob_difference": difference.max() if difference.numel() else difference.new_zeros(())}
        if self.entropy_weight is not None:
            weight = self.entropy_weight.applied
            loss = loss - weight * inputs.entropies.sum() / inputs.num_loss_tokens
            maxima["entropy_weight"] = difference.new_tensor(weight)
        return LossOutput(loss=loss, means=means, maxima=maxima)

    def combine(self, token_loss: Tensor, inputs: LossInputs) -> Tensor:
        """See `Loss.combine`."""
        return aggregate(token_loss, inputs, self.aggregation, self.max_tokens)

    def end_step(self, values: Mapping[str, float]) -> None:
        """See `Loss.end_step`."""
        if self.entropy_weight is not None:
            self.entropy_weight.end_step(values["entropy"])

    def state_dict(self) -> dict[str, Any]:
        """See `Loss.state_dict`."""
        return {} if self.entropy_weight is None else {"entropy_weight": self.entropy_weight.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Loss.load_state_dict`."""
        if self.entropy_weight is not None and "entropy_weight" in state:
            self.entropy_weight.load_state_dict(state["entropy_weight"])


def clipped_surrogate(
    log_ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """Return -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), r = exp(log_ratio), and where the clip holds, each [N].

    PPO, arXiv:1707.06347 eq. 7.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -(ratio * advantages).minimum(clipped * advantages), (ratio * advantages > clipped * advantages).detach()


def check_clips(loss: Loss, clip_low: float, clip_high: float) -> None:
    """Check the bounds of a clip.

    Raises:
        ConfigError: clip_low does not lie in (0, 1), or clip_high not above 0.
    """
    if not 0 < clip_low < 1 or clip_high <= 0:
        raise ConfigError(
            f"{type(loss).__name__}: clip_low {clip_low} must lie in (0, 1), clip_high {clip_high} above 0"
        )
