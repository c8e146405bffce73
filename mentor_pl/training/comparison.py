"""From a scored group to what is trained on."""

from __future__ import annotations

from dataclasses import dataclass

from mentor_pl.advantages import AdvantageEstimator, group_rewards
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.training.samples import Sample, sample_from_trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupComparison:
    """Compares the trajectories of a group and lays them out as samples.

    Attributes:
        reward: The program that scores the groups.
        advantages: Compares them.
        mask_truncated: Whether trajectories that a budget cut off are left out of the loss. They still count in their group's
            statistics.
    """

    reward: RewardProgram
    advantages: AdvantageEstimator
    mask_truncated: bool = False

    def samples(self, scored: ScoredGroup) -> list[Sample]:
        """Return the samples of a group.

        What the infrastructure broke leaves both the loss and the group's statistics.
        """
        trajectories = scored.group.trajectories
        kept = [i for i, trajectory in enumerate(trajectories) if not trajectory.failed_infrastructure]
        if not kept:
            return []
        advantages = self.advantages(group_rewards(self.reward, scored, kept)).tolist()
        return [
            sample_from_trajectory(trajectories[i], advantage)
            for i, advantage in zip(kept, advantages, strict=True)
            if not (self.mask_truncated and trajectories[i].truncated)
        ]
