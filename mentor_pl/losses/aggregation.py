"""From the losses of tokens to the loss of a step. Each is one sum over all tokens of the step, however it is split."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from mentor_pl.losses.base import LossInputs
from mentor_pl.losses.trajectory_sums import trajectory_sum

Aggregation = Literal["token_mean", "sequence_mean", "constant"]
"""Names of the aggregations."""


def aggregate(token_loss: Tensor, inputs: LossInputs, how: Aggregation, max_tokens: int | None = None) -> Tensor:
    """Return a micro-batch's share of the step's loss, a scalar.

    With M trajectories in the step, trajectory i having n_i trained tokens:

    - `token_mean`: sum of all / sum of n_i. Every token weighs the same (DAPO, arXiv:2503.14476 eq.
      8).
    - `sequence_mean`: 1 / M sum_i 1 / n_i sum of i's. Every trajectory weighs the same (GRPO,
      arXiv:2402.03300 eq. 3).
    - `constant`: sum of all / (M max_tokens). Weights do not depend on lengths (Dr. GRPO,
      arXiv:2503.20783).

    Args:
        token_loss: [N].
        inputs: Where the tokens come from.
        how: One of the above.
        max_tokens: For `constant`, the most tokens that a trajectory may have.
    """
    if how == "token_mean":
        return token_loss.sum() / inputs.num_loss_tokens
    if how == "sequence_mean":
        lengths = trajectory_sum(token_loss.new_ones(token_loss.shape), inputs.trajectory_index)
        return (token_loss / lengths).sum() / inputs.num_trajectories
    assert max_tokens is not None
    return token_loss.sum() / (inputs.num_trajectories * max_tokens)
