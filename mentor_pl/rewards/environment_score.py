"""What the environment itself thinks of its final state."""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.errors import RewardError
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class EnvironmentScore(RewardComponent):
    """Pays the score in [0, 1] that the tools' own class gives its final state (`score()`, docs/tools.md)."""

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Return the environment's score; 0 where the infrastructure failed before it could be asked.

        Raises:
            RewardError: No tool backend of this environment gives a score.
        """
        if trajectory.environment_score is None:
            if trajectory.failed_infrastructure:
                return 0.0
            raise RewardError(
                f"EnvironmentScore: the trajectory of {trajectory.reference_id!r} has no score of its environment; give "
                "the class of the tools a method score(), or use another component"
            )
        return trajectory.environment_score
