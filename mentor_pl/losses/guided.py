"""A loss on the student's own tokens, beside the teacher's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from mentor_pl.errors import PluginError
from mentor_pl.losses.base import Loss, LossInputs, LossOutput
from mentor_pl.plugins import keeping_contract


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

    Raises:
        PluginError: The loss raised, or gave something else than a `LossOutput` of scalars.
    """
    with keeping_contract(loss):
        output = _checked(loss, loss(inputs.of(~(of_teacher | imitated))))
    imitation = -(inputs.logprobs * inputs.advantages)[imitated].sum() / num_imitated_tokens
    with keeping_contract(loss, ".of_teacher"):
        member = loss.of_teacher(inputs.of(of_teacher), shaping)
    return replace(output, loss=output.loss + member + imitation)


def _checked(loss: Loss, output: Any) -> LossOutput:
    """Return what a loss gave, where it can be trained on and logged. That it is not finite is the guard's to see."""
    if not isinstance(output, LossOutput):
        raise PluginError(f"{type(loss).__name__} gave {output!r:.100}; a loss gives a LossOutput")
    if not _is_scalar(output.loss):
        raise PluginError(f"{type(loss).__name__} gave the loss {output.loss!r:.100}; it must be a scalar tensor")
    for field, logged in (("means", output.means), ("maxima", output.maxima)):
        wrong = next((n for n, value in dict(logged).items() if not (isinstance(n, str) and _is_scalar(value))), None)
        if wrong is not None:
            raise PluginError(
                f"{type(loss).__name__} gave {logged[wrong]!r:.100} for {wrong!r} of its {field}; each must be a scalar tensor "
                "under a text"
            )
    return output


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0
