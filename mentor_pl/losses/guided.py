"""A loss on the student's own tokens, beside the teacher's."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mentor_pl.losses.base import Loss, LossInputs, LossOutput


def guided(
    loss: Loss, inputs: LossInputs, *, of_teacher: Tensor, imitated: Tensor, num_imitated_tokens: float, shaping: float
) -> LossOutput:
    """Return the share of the step's loss of a micro-batch in which some tokens are the teacher's.

    Args:
        loss: What the student's own tokens are trained by, which alone are logged.
        inputs: All tokens; the weight of the teacher's is counted into their advantages.
        of_teacher: True for tokens of the teacher's solution as a member of the group, [N]; see
            `Loss.of_teacher`.
        imitated: True for tokens whose likelihood is trained, [N].
        num_imitated_tokens: How many of those the whole step has: their term is a mean of its own.
        shaping: See `Loss.of_teacher`.
    """
    output = loss(inputs.of(~(of_teacher | imitated)))
    imitation = -(inputs.logprobs * inputs.advantages)[imitated].sum() / num_imitated_tokens
    return replace(output, loss=output.loss + loss.of_teacher(inputs.of(of_teacher), shaping) + imitation)
