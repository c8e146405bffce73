"""On-policy distillation: the reverse KL to a teacher, token by token, as an advantage."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mentor_pl.errors import ConfigError
from mentor_pl.guidance.decay import remaining
from mentor_pl.guidance.token_teachers import TokenTeacher


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class Distillation:
    """A teacher judges each token that the student sampled, alone or beside the reward.

    The advantage of token t is reward_weight * A - weight * k_t, with A the reward's and k_t = log
    p_student(t) - log p_teacher(t), cut off at +-max_gap: the one-sample estimate of the reverse KL
    KL(student || teacher) at t. On-policy distillation (arXiv:2306.13649) with the reverse KL, in
    the form of a policy gradient (MiniLLM, arXiv:2306.08543).

    Departures: one sampled token in place of a sum over the vocabulary, so that a server's
    log-probabilities are enough; a token answers for its own gap only, not for those behind it; the
    cut.

    Attributes:
        teacher: Who judges: `ModelTeacher`, `VLLMTeacher` or `InformedSelf`.
        weight: Weight of k_t in round 0.
        reward_weight: Weight of the reward's advantage; 0 distils alone.
        decay_rounds: Rounds until `weight` is 0, falling linearly; none for a constant weight.
        max_gap: Largest |k_t| in nats; a token that the teacher thinks impossible would outweigh
            all others.
    """

    teacher: TokenTeacher
    weight: float = 1.0
    reward_weight: float = 1.0
    decay_rounds: int | None = None
    max_gap: float = 10.0

    def __post_init__(self) -> None:
        if self.weight <= 0 or self.reward_weight < 0 or self.max_gap <= 0:
            raise ConfigError(
                f"guidance.distillation: weight {self.weight} and max_gap {self.max_gap} must be above 0, reward_weight "
                f"{self.reward_weight} at or above 0"
            )
        if self.decay_rounds is not None and self.decay_rounds < 1:
            raise ConfigError(f"guidance.distillation: decay_rounds {self.decay_rounds} must be at least 1")

    def weight_at(self, round_index: int) -> float:
        """Return the weight in a round."""
        return self.weight * remaining(round_index, self.decay_rounds)

    def advantages(self, of_reward: Tensor, gaps: Tensor | None, round_index: int) -> Tensor:
        """Return the advantages of a trajectory's sampled tokens.

        Args:
            of_reward: The reward's, [N].
            gaps: log p_student - log p_teacher, [N]; None where the teacher could not tell.
            round_index: Decides what is left of the weight.
        """
        kept = self.reward_weight * of_reward
        if gaps is None:
            return kept
        return kept - self.weight_at(round_index) * gaps.clamp(-self.max_gap, self.max_gap)
