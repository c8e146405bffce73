"""Maximum likelihood of the teacher's own turns: the SFT baseline."""

from __future__ import annotations

from mentor_pl.losses.base import Loss, LossInputs, LossOutput


class SFTLoss(Loss):
    """Mean negative log-likelihood of the trained tokens over the step. Advantages are not looked at."""

    imitates = True

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """See `Loss.__call__`."""
        return LossOutput(
            loss=-inputs.logprobs.sum() / inputs.num_loss_tokens, means={"entropy": inputs.entropies.sum()}
        )
