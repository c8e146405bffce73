"""The teacher's own solution as a member of the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mentor_pl.errors import ConfigError
from mentor_pl.guidance.decay import remaining


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherInGroup:
    """LUFFY, arXiv:2504.14945: a reference's tokens join their prompt's group as one more, off-policy, member.

    It is scored by the reward program and compared with the student's attempts like any other. Its
    token loss is -weight * f(p) * A with f(p) = p / (p + `model.off_policy_shaping`) (eq. 8):
    nobody knows the teacher's own probabilities, so they count as 1, and the shaping lets unlikely
    tokens learn. Prompts without a solution have no such member.

    Attributes:
        when: `failed` where none of the student's attempts succeeds, `always` for every prompt.
        weight: Weight of its tokens in round 0.
        decay_rounds: Rounds until the weight is 0, falling linearly; none for a constant weight.
    """

    when: Literal["failed", "always"] = "failed"
    weight: float = 1.0
    decay_rounds: int | None = None

    def __post_init__(self) -> None:
        if self.weight <= 0 or (self.decay_rounds is not None and self.decay_rounds < 1):
            raise ConfigError(
                f"guidance.teacher_in_group: weight {self.weight} must be above 0, decay_rounds {self.decay_rounds} at least 1"
            )

    def weight_at(self, round_index: int) -> float:
        """Return the weight of its tokens in a round."""
        return self.weight * remaining(round_index, self.decay_rounds)
