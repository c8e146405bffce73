"""What a loss sees and gives. Everything is flat: one entry per trained token, no padding, no masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInputs:
    """The N trained tokens of a micro-batch.

    Attributes:
        logprobs: Of the trained policy, with gradient, [N].
        sampling_logprobs: Of the distribution that they were drawn from, [N].
        old_logprobs: Of the policy whose update is limited, which the ratio is taken to, [N]: where
            the sampler is corrected for, the trained one's at the start of the round, else the
            sampler's.
        weights: What each token's loss weighs, [N]: 1 where the sampler is not corrected for.
        advantages: [N].
        ref_policy_logprobs: Of the reference policy, [N]; None where the loss does not ask for it.
        entropies: Of the trained policy's next-token distribution, with gradient where the loss
            `needs_entropy_gradient`, [N].
        trajectory_index: Which trajectory of the micro-batch each token belongs to, from 0 on and
            never falling, [N]. A micro-batch holds whole trajectories.
        num_loss_tokens: Trained tokens in the whole optimiser step: all ranks, all micro-batches.
        num_trajectories: Trajectories with trained tokens in the whole step.
        mean_sampling_logprob: Of the step's trained tokens.
        mean_advantage: Of the step's trained tokens.
    """

    logprobs: Tensor
    sampling_logprobs: Tensor
    old_logprobs: Tensor
    weights: Tensor
    advantages: Tensor
    ref_policy_logprobs: Tensor | None
    entropies: Tensor
    trajectory_index: Tensor
    num_loss_tokens: float
    num_trajectories: float
    mean_sampling_logprob: float = 0.0
    mean_advantage: float = 0.0

    def of(self, chosen: Tensor) -> LossInputs:
        """Return some of the tokens; `chosen` is True for them, [N]."""
        tokens = {f.name: v[chosen] for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        return replace(self, **tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOutput:
    """A loss and what to log.

    Attributes:
        loss: Scalar with gradient; summed over all micro-batches of a step it is the step's loss.
        means: Per-token values to log, each summed over this micro-batch's tokens; the trainer
            divides by their global number.
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

    needs_entropy_gradient: bool = False
    """True where `entropies` are wanted with gradient."""

    imitates: bool = False
    """True where it can learn from a teacher's solutions, which have no sampling log-probabilities."""

    @abstractmethod
    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Compute the micro-batch's share of the loss."""

    def of_teacher(self, inputs: LossInputs, shaping: float) -> Tensor:
        """Return the share of the step's loss of the teacher's tokens in the group, a scalar.

        LUFFY, arXiv:2504.14945 eq. 8: -f(p) A with f(p) = p / (p + shaping), whose gradient is
        large where p is small.

        Args:
            inputs: The teacher's tokens, with the weight of each counted into its advantage.
            shaping: The paper's gamma; 0 trains on p / p: nothing.
        """
        return self.combine(shaped_probability(inputs.logprobs, shaping) * -inputs.advantages, inputs)

    def combine(self, token_loss: Tensor, inputs: LossInputs) -> Tensor:
        """Return the share of the step's loss that tokens with these losses have, a scalar; by default their mean over the step."""
        return token_loss.sum() / inputs.num_loss_tokens

    def end_step(self, values: Mapping[str, float]) -> None:  # noqa: B027 - optional to override
        """Note what an optimiser step came to.

        Args:
            values: Its logged values, over all ranks and micro-batches; the same on every rank.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs of what `end_step` noted."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional to override
        """Go on from a saved state."""


def shaped_probability(logprobs: Tensor, shaping: float) -> Tensor:
    """Return p / (p + shaping), [N]."""
    probs = logprobs.exp()
    return probs / (probs + shaping)
