"""Per-token estimators of KL(policy || reference policy), http://joschu.net/blog/kl-approx.html.

With r = reference / policy of the sampled token:

| name | estimate        | mean over samples | its gradient, in a loss                    |
|------|-----------------|-------------------|--------------------------------------------|
| k1   | -log r          | the KL            | has mean 0: penalises nothing              |
| k2   | (log r)^2 / 2   | biased, low noise | that of the KL, on samples of the policy   |
| k3   | r - 1 - log r   | the KL            | that of KL(reference || policy)            |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3"]
"""Names of the estimators."""


def k1(logprobs: Tensor, ref_policy_logprobs: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token without bias; single values may be negative, [N]."""
    return logprobs - ref_policy_logprobs


def k2(logprobs: Tensor, ref_policy_logprobs: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token by half the square of the log-ratio, [N]."""
    return 0.5 * (logprobs - ref_policy_logprobs).square()


def k3(logprobs: Tensor, ref_policy_logprobs: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token without bias and without negative values, [N]."""
    # exp() overflows where a token has become very unlikely; beyond e^20 the direction is all that matters.
    log_ratio = (ref_policy_logprobs - logprobs).clamp(-20.0, 20.0)
    return torch.exp(log_ratio) - 1.0 - log_ratio


KL_ESTIMATORS: dict[KLEstimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
"""Estimator by name; each takes the log-probabilities under policy and reference, [N] each."""
