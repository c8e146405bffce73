"""Leaves out the tokens that lower the entropy most."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mentor_pl.errors import ConfigError
from mentor_pl.losses.base import LossInputs


@dataclass(frozen=True, slots=True, kw_only=True)
class CovarianceClip:
    """Takes the gradient from tokens whose log-probability and advantage are both far above their means.

    Clip-Cov, arXiv:2505.22617 eq. 11: with cov = (log p - mean log p) (A - mean A), means over all
    tokens of the step, tokens with cov in [low, high] are left out. Two departures: every such
    token, not a random share of them; and log p is the sampling distribution's, which makes the
    means those of the step however it is split.

    Attributes:
        low: Covariance from which on a token is left out.
        high: Covariance up to which it is.
    """

    low: float = 1.0
    high: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ConfigError(f"CovarianceClip: low {self.low} must lie above 0 and below high {self.high}")

    def left_out(self, inputs: LossInputs) -> Tensor:
        """Tell which tokens are left out, [N]."""
        covariance = (inputs.sampling_logprobs - inputs.mean_sampling_logprob) * (
            inputs.advantages - inputs.mean_advantage
        )
        return (covariance >= self.low) & (covariance <= self.high)
