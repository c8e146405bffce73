"""The plugin point for reward components (entry-point group `mentor_pl.rewards`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from mentor_pl.reference import Reference
from mentor_pl.trajectory import Trajectory, TrajectoryGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class NoScore:
    """Stands where a score could not be told, and not because of the student: a judge's server did not answer.

    The trajectory is not trained on, as one that the infrastructure broke. It never counts as a 0.

    Attributes:
        reason: What happened, for the log.
    """

    reason: str


class RewardComponent(ABC):
    """Scores one aspect of a trajectory. Pure and thread-safe: the same input always gives the same score.

    Constructor arguments are the component's YAML keys. Judge only what the student itself sampled:
    `trajectory.final_text`, `trajectory.tool_calls` and the executor's ledger
    `trajectory.tool_results`; never a prompt or the text of a tool's output. Check an
    implementation with `mentor_pl.testing.check_reward_component`.
    """

    @abstractmethod
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Score one trajectory.

        Args:
            trajectory: What the student did.
            references: Every reference of its prompt, at least one; the best match counts.

        Returns:
            A score in [0, 1].
        """

    def score_group(self, group: TrajectoryGroup) -> Sequence[float | NoScore]:
        """Score all trajectories of one prompt; override to judge them together (batched models, async judges).

        Returns:
            One score in [0, 1] for each trajectory, in order; `NoScore` where there is none and the
            student is not to blame.
        """
        return [self.score(trajectory, group.references) for trajectory in group.trajectories]
