"""Easy prompts first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """Opens the prompts little by little, the easiest first.

    Attributes:
        rounds: The round from which on all prompts are open.
        first_share: Share of the prompts that are open in round 0; it grows linearly.
        field: Field of a reference's row that holds its difficulty as a number; by default, the
            number of the teacher's calls counts.
    """

    rounds: int = 40
    first_share: float = 0.3
    field: str | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.first_share <= 1:
            raise ConfigError(
                f"guidance.curriculum: rounds {self.rounds} must be at least 1, first_share {self.first_share} lie in (0, 1]"
            )

    def difficulty(self, references: Sequence[Reference]) -> float:
        """Return how difficult a prompt is: that of its easiest reference.

        Raises:
            ConfigError: A reference lacks the field, or it holds no number.
        """
        return min(self._of(reference) for reference in references)

    def num_open(self, num_prompts: int, round_index: int) -> int:
        """Return how many of the prompts are open in a round."""
        share = self.first_share + (1 - self.first_share) * min(1.0, round_index / self.rounds)
        return min(num_prompts, math.ceil(share * num_prompts))

    def _of(self, reference: Reference) -> float:
        if self.field is None:
            return float(len(reference.tool_calls))
        value = reference.fields.get(self.field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(
                f"guidance.curriculum.field is {self.field!r}, which is {value!r} in reference {reference.reference_id!r}; every "
                "reference needs a number there"
            )
        return float(value)
