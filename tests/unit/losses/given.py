"""Tokens for losses, with what a test does not care about filled in."""

import torch
from torch import tensor

from mentor_pl.losses import LossInputs


def inputs(
    log_ratios,
    advantages,
    *,
    reference=None,
    num_loss_tokens=1.0,
    old=None,
    weights=None,
    trajectories=None,
    num_trajectories=1.0,
    entropies=None,
    **settings,
):
    """`logprobs` are the log-ratios where `old` is left out: the old policy then gives every token probability 1."""
    count = len(log_ratios)
    return LossInputs(
        logprobs=tensor(log_ratios, requires_grad=True),
        sampling_logprobs=torch.zeros(count),
        old_logprobs=tensor(old or [0.0] * count),
        weights=tensor(weights or [1.0] * count),
        advantages=tensor(advantages),
        ref_policy_logprobs=None if reference is None else tensor(reference),
        entropies=torch.full((count,), 0.5) if entropies is None else entropies,
        trajectory_index=tensor(trajectories or [0] * count, dtype=torch.int64),
        num_loss_tokens=num_loss_tokens,
        num_trajectories=num_trajectories,
        **settings,
    )
