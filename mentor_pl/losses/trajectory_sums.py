"""Sums over the tokens of each trajectory of a micro-batch, given back to its tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def per_trajectory(values: Tensor, index: Tensor) -> Tensor:
    """Sum the values of each trajectory, [M].

    Args:
        values: Of each token, [N].
        index: Trajectory of each token, from 0 to M - 1, [N].
    """
    count = int(index.max()) + 1 if index.numel() else 0
    return values.new_zeros(count).index_add(0, index, values)


def trajectory_sum(values: Tensor, index: Tensor) -> Tensor:
    """Give every token the sum over its trajectory, [N]."""
    return per_trajectory(values, index)[index]


def trajectory_mean(values: Tensor, index: Tensor) -> Tensor:
    """Give every token the mean over its trajectory, [N]."""
    return trajectory_sum(values, index) / trajectory_sum(torch.ones_like(values), index)


def sum_to_go(values: Tensor, index: Tensor) -> Tensor:
    """Give every token the sum from itself to the end of its trajectory, [N].

    Args:
        values: Of each token, [N].
        index: Trajectory of each token, from 0 on and never falling: the tokens of each stand
            together, in order, [N].
    """
    if not index.numel():
        return values
    doubled = values.double()  # a difference of two long sums
    ends = per_trajectory(doubled, index).cumsum(0)
    return (ends[index] - doubled.cumsum(0) + doubled).to(values.dtype)
