"""What a loss sees and gives. Everything is flat: one entry per trained token, no padding, no masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInputs:
    """The N trained tokens of a micro-batch.

    Attributes:
        logprobs: Of the trained policy, with gradient, [N].
        sampling_logprobs: Of the distribution that they were drawn from, [N].
        old_logprobs: Of the policy whose update is limited, which the ratio is taken to, [N]: where the sampler is corrected for, the
            trained one's at the start of the round, else the sampler's.
        weights: What each token's loss weighs, [N]: 1 where the sampler is not corrected for.
        advantages: [N].
        ref_policy_logprobs: Of the reference policy, [N]; None where the loss does not ask for it.
        entropies: Of the trained policy's next-token distribution, without gradient, [N].
        num_loss_tokens: Trained tokens in the whole optimiser step: all ranks, all micro-batches.
    """

    logprobs: Tensor
    sampling_logprobs: Tensor
    old_logprobs: Tensor
    weights: Tensor
    advantages: Tensor
    ref_policy_logprobs: Tensor | None
    entropies: Tensor
    num_loss_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOutput:
    """A loss and what to log.

    Attributes:
        loss: Scalar with gradient; summed over all micro-batches of a step it is the step's loss.
        means: Per-token values to log, each summed over this micro-batch's tokens; the trainer divides by their global number.
        maxima: Values to log by their maximum.
    """

    loss: Tensor
    means: dict[str, Tensor] = field(default_factory=dict)
    maxima: dict[str, Tensor] = field(default_factory=dict)


class Loss(ABC):
    """Turns the log-probabilities of trained tokens into a loss."""

    needs_ref_policy: bool = False
    """True where `ref_policy_logprobs` is wanted."""

    needs_all_tokens: bool = True
    """False where tokens with advantage 0 contribute neither loss nor gradient, so that their forward pass may be saved."""

    imitates: bool = False
    """True where it can learn from a teacher's solutions, which have no sampling log-probabilities."""

    @abstractmethod
    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Compute the micro-batch's share of the loss."""


def k3(logprobs: Tensor, ref_policy_logprobs: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token without bias and without negative values, [N].

    k3 of http://joschu.net/blog/kl-approx.html, with r = reference / policy: r - 1 - log r.
    """
    # exp() overflows where a token has become very unlikely; beyond e^20 the direction is all that matters.
    log_ratio = (ref_policy_logprobs - logprobs).clamp(-20.0, 20.0)
    return torch.exp(log_ratio) - 1.0 - log_ratio
