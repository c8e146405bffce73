"""How far beyond a soft limit did the student write?"""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class Overlong(RewardComponent):
    """Soft overlong punishment, arXiv:2503.14476 eq. 13: a score for too many sampled tokens, for a term with negative weight.

    0 up to `max_tokens - margin`, from there rising linearly to 1 at `max_tokens`. The paper's
    weight is -1.

    Args:
        max_tokens: Tokens sampled over all turns that score 1: `data.limits.max_completion_tokens`.
        margin: Tokens below it from which on the score rises; at least 1.
    """

    def __init__(self, max_tokens: int, margin: int) -> None:
        if not 1 <= margin <= max_tokens:
            raise ConfigError(f"Overlong: margin {margin} must lie between 1 and max_tokens {max_tokens}")
        self.max_tokens = max_tokens
        self.margin = margin

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Count the sampled tokens."""
        over = trajectory.num_sampled_tokens - (self.max_tokens - self.margin)
        return min(max(over / self.margin, 0.0), 1.0)
