"""A reward component for short trajectories: an example of a third-party plugin."""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory

__all__ = ["Brevity"]


class Brevity(RewardComponent):
    """1 up to a target length, then falling in a straight line to 0."""

    def __init__(self, target_tokens: int = 128, zero_at_tokens: int = 512) -> None:
        """Set the lengths, in tokens that the student sampled over all turns.

        Args:
            target_tokens: Up to here the score is 1.
            zero_at_tokens: From here on the score is 0.

        Raises:
            ConfigError: They are negative or not in this order.
        """
        if not 0 <= target_tokens < zero_at_tokens:
            raise ConfigError(
                f"Brevity: target_tokens is {target_tokens} and zero_at_tokens {zero_at_tokens}; "
                "0 <= target_tokens < zero_at_tokens must hold"
            )
        self.target_tokens = target_tokens
        self.zero_at_tokens = zero_at_tokens

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Measure the length; words stand in for tokens where a trajectory was read from a file without them."""
        length = trajectory.num_sampled_tokens or sum(len(turn.message.content.split()) for turn in trajectory.turns)
        share = (self.zero_at_tokens - length) / (self.zero_at_tokens - self.target_tokens)
        return min(1.0, max(0.0, share))
