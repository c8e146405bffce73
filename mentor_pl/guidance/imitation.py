"""Imitation beside exploration."""

from __future__ import annotations

from dataclasses import dataclass

from mentor_pl.errors import ConfigError
from mentor_pl.guidance.decay import remaining


@dataclass(frozen=True, slots=True, kw_only=True)
class Imitation:
    """Adds weight * (mean negative log-likelihood of the teacher's tokens) to every step's loss, on the prompts of that step.

    Attributes:
        weight: Weight in round 0.
        decay_rounds: Rounds until the weight is 0, falling linearly; none for a constant weight.
    """

    weight: float = 0.1
    decay_rounds: int | None = None

    def __post_init__(self) -> None:
        if self.weight <= 0 or (self.decay_rounds is not None and self.decay_rounds < 1):
            raise ConfigError(
                f"guidance.imitation: weight {self.weight} must be above 0, decay_rounds {self.decay_rounds} at least 1"
            )

    def weight_at(self, round_index: int) -> float:
        """Return the weight in a round."""
        return self.weight * remaining(round_index, self.decay_rounds)
