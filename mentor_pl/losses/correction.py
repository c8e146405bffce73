"""Training on samples that another policy than the trainer's drew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mentor_pl.errors import ConfigError, EngineError
from mentor_pl.losses.kl import k3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceWeights:
    """What a micro-batch's tokens weigh in the loss.

    Attributes:
        weights: min(cap, trainer's probability / sampler's), [N].
        means: Per-token values to log, each summed over the tokens as in `LossOutput`.
            `correction/kl`: the k3 estimate of KL(sampler || trainer), under filters a lower bound;
            `correction/weight`; `correction/squared_weight`; `correction/capped`: 1 where the cap
            applies.
    """

    weights: Tensor
    means: dict[str, Tensor]


class TruncatedImportanceSampling:
    """Corrects for a sampler that is not quite the trainer's policy: cheaper arithmetic, a server, filters, older weights.

    With s the sampler's distribution and p that of the trainer's weights at the start of the round,
    each token's loss is weighted by min(cap, p / s), and the loss's own ratio is taken to p. That
    is the decoupled objective of arXiv:2110.00641, with weights truncated as proposed for rollout
    engines by Yao et al. 2025 (https://openreview.net/forum?id=xsonlP8DRV). Weights are per token:
    those of whole sequences would be unbiased, but few would weigh anything. They are not
    normalised: the loss stays a mean over all trained tokens.

    Where top-k, top-p or min-p have filtered, s is p divided by the mass that they kept, so the
    weight is that mass.

    Args:
        cap: The most that a token may weigh; at least 1.
        min_effective_sample_size: The run ends with an error where a step's tokens are worth less
            than this share of as many tokens of the trainer's own; in [0, 1), 0 never ends it.
    """

    def __init__(self, cap: float = 2.0, min_effective_sample_size: float = 0.5) -> None:
        if cap < 1 or not 0 <= min_effective_sample_size < 1:
            raise ConfigError(
                f"TruncatedImportanceSampling: cap {cap} must be at least 1, min_effective_sample_size {min_effective_sample_size} "
                "lie in [0, 1)"
            )
        self.cap = cap
        self.min_effective_sample_size = min_effective_sample_size

    def __call__(self, logprobs: Tensor, sampling_logprobs: Tensor) -> ImportanceWeights:
        """Weigh tokens.

        Args:
            logprobs: Under the trainer's weights at the start of the round, without gradient, [N].
            sampling_logprobs: Under the distribution that they were drawn from, [N].
        """
        # exp() overflows where the two disagree wildly; beyond e^20 only the cap matters.
        ratios = torch.exp((logprobs - sampling_logprobs).clamp(-20.0, 20.0))
        weights = ratios.clamp(max=self.cap)
        return ImportanceWeights(
            weights=weights,
            means={
                "correction/kl": k3(sampling_logprobs, logprobs).sum(),
                "correction/weight": weights.sum(),
                "correction/squared_weight": weights.square().sum(),
                "correction/capped": (ratios > self.cap).float().sum(),
            },
        )

    def effective_sample_size(self, means: Mapping[str, float]) -> float:
        """Return (sum w)^2 / (N sum w^2) of a step's truncated weights: in (0, 1], 1 where all are equal.

        Args:
            means: Those of `ImportanceWeights`, over all tokens of the step; all 0 where it has
                none.

        Raises:
            EngineError: It is under the limit.
        """
        square = means["correction/squared_weight"]
        size = means["correction/weight"] ** 2 / square if square else 1.0
        if size < self.min_effective_sample_size:
            raise EngineError(
                f"the effective sample size of this step is {size:.3g} of its tokens, under the limit of "
                f"{self.min_effective_sample_size} (model.correction.min_effective_sample_size): the rollouts came from another policy "
                f"than the trainer's, KL {means['correction/kl']:.3g} per token; see that the engine holds the present weights, use "
                "more precise arithmetic or weaker filters in rollouts, or lower the limit"
            )
        return size
