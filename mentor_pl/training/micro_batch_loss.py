"""From a scored micro-batch to its share of the step's loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mentor_pl.losses import Loss, LossInputs, LossOutput, TruncatedImportanceSampling
from mentor_pl.losses.guided import guided
from mentor_pl.training.batching import PolicyBatch
from mentor_pl.training.samples import Source


def micro_batch_loss(
    loss: Loss,
    batch: PolicyBatch,
    *,
    logprobs: Tensor,
    entropies: Tensor,
    ref_policy_logprobs: Tensor | None,
    correction: TruncatedImportanceSampling | None,
    off_policy_shaping: float,
) -> LossOutput:
    """Return a micro-batch's share of the step's loss.

    Args:
        loss: Trains the student's own tokens.
        batch: The micro-batch, with N trained tokens.
        logprobs: Under the trained weights, with gradient, [N].
        entropies: Of their next-token distributions, [N].
        ref_policy_logprobs: Under the reference policy, [N]; None where nobody asks.
        correction: Corrects for the sampler of the student's own tokens.
        off_policy_shaping: Of the teacher's tokens; see `Loss.of_teacher`.
    """
    old_logprobs, corrected = batch.sampling_logprobs, None
    weights = torch.ones_like(batch.sampling_logprobs)
    sampled = batch.source == Source.STUDENT
    if correction is not None:
        old_logprobs = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        corrected = correction(old_logprobs[sampled], batch.sampling_logprobs[sampled])
        weights[sampled] = corrected.weights
    output = guided(
        loss,
        LossInputs(
            logprobs=logprobs,
            sampling_logprobs=batch.sampling_logprobs,
            old_logprobs=old_logprobs,
            weights=weights,
            advantages=batch.advantages,
            ref_policy_logprobs=ref_policy_logprobs,
            entropies=entropies,
            trajectory_index=batch.trajectory_index,
            num_loss_tokens=batch.num_loss_tokens,
            num_trajectories=batch.num_trajectories,
            mean_sampling_logprob=batch.mean_sampling_logprob,
            mean_advantage=batch.mean_advantage,
        ),
        of_teacher=batch.source == Source.TEACHER,
        imitated=batch.source == Source.IMITATED,
        num_imitated_tokens=batch.num_imitated_tokens,
        shaping=off_policy_shaping,
    )
    return output if corrected is None else replace(output, means=output.means | corrected.means)
