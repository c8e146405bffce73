"""From a scored group to what is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from mentor_pl.advantages import AdvantageEstimator, group_rewards, turn_advantages
from mentor_pl.evaluation.rollout_metrics import Sums, rollout_sums
from mentor_pl.evaluation.teacher import teacher_trajectory
from mentor_pl.guidance import Guidance
from mentor_pl.reference import Reference
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.training.samples import Sample, Source, sample_from_trajectory
from mentor_pl.trajectory import TrajectoryGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupComparison:
    """Compares the trajectories of a group and lays them out as samples.

    Attributes:
        reward: The program that scores the groups; where there are several environments, of each by
            its name.
        advantages: Compares them.
        mask_truncated: Whether trajectories that a budget cut off are left out of the loss. They
            still count in their group's statistics.
        guidance: What the teacher adds to a group.
        solution: Lays a reference's solution out; None where it has none, or one that is too long.
    """

    reward: RewardProgram | Mapping[str, RewardProgram]
    advantages: AdvantageEstimator
    mask_truncated: bool = False
    guidance: Guidance = Guidance()
    solution: Callable[[Reference], Sample | None] = lambda _: None

    def reward_of(self, group: TrajectoryGroup) -> RewardProgram:
        """Return the program that scores a group."""
        if isinstance(self.reward, RewardProgram):
            return self.reward
        return self.reward[group.references[0].environment]

    @property
    def environments(self) -> tuple[str, ...]:
        """Names that the references of the run's environments carry: one empty name where there is one environment."""
        return ("",) if isinstance(self.reward, RewardProgram) else tuple(self.reward)

    def sums(self, groups: Sequence[ScoredGroup]) -> Sums:
        """Measure the groups of a rollout; see `rollout_sums`."""
        return rollout_sums(groups, self.reward)

    def success_share(self, scored: ScoredGroup) -> float | None:
        """Return the share of successes among a group's own attempts; see `Guidance.success_share`."""
        return self.guidance.success_share(self.reward_of(scored.group), scored)

    def samples(self, scored: ScoredGroup, round_index: int) -> list[Sample]:
        """Return the samples of a group.

        What the infrastructure broke leaves both the loss and the group's statistics.

        Args:
            scored: The student's attempts.
            round_index: Decides what is left of guidance that decays.

        Raises:
            PluginError: The advantage estimator broke its contract.
        """
        reference, solution = self._solution(scored)
        reward = self.reward_of(scored.group)
        out: list[Sample] = []
        weight = self._teacher_weight(scored, round_index) if solution is not None else 0.0
        if weight > 0:
            scored = _with(scored, reward.score_group(_of_teacher(reference, scored)))
        trajectories = scored.group.trajectories
        kept = [i for i, trajectory in enumerate(trajectories) if not trajectory.failed_infrastructure]
        advantages = turn_advantages(self.advantages, group_rewards(reward, scored, kept)) if kept else []
        for i, of_turns in zip(kept, advantages, strict=True):
            if weight > 0 and i == len(trajectories) - 1 and solution is not None:
                advantage = fmean(of_turns)
                out.append(
                    replace(
                        solution,
                        source=Source.TEACHER,
                        weight=weight,
                        advantages=solution.loss_mask * advantage,
                    )
                )
            elif not (self.mask_truncated and trajectories[i].truncated):
                out.append(sample_from_trajectory(trajectories[i], of_turns))
        imitation = self.guidance.imitation
        if imitation is not None and solution is not None and (share := imitation.weight_at(round_index)) > 0:
            out.append(replace(solution, source=Source.IMITATED, weight=share))
        return out

    def _solution(self, scored: ScoredGroup) -> tuple[Reference, Sample | None]:
        """Return the first solution that fits, where guidance asks for one."""
        references = scored.group.references
        if self.guidance.adds_teacher_tokens:
            for reference in references:
                if (sample := self.solution(reference)) is not None:
                    return reference, sample
        return references[0], None

    def _teacher_weight(self, scored: ScoredGroup, round_index: int) -> float:
        member = self.guidance.teacher_in_group
        if member is None:
            return 0.0
        scores = scored.scores[self.guidance.success_term(self.reward_of(scored.group))]
        if member.when == "failed" and any(Guidance.of_scores(scores, scored.group)):
            return 0.0
        return member.weight_at(round_index)


def _of_teacher(reference: Reference, scored: ScoredGroup) -> TrajectoryGroup:
    return TrajectoryGroup(references=scored.group.references, trajectories=(teacher_trajectory(reference),))


def _with(scored: ScoredGroup, teacher: ScoredGroup) -> ScoredGroup:
    """Put the teacher's trajectory behind the student's."""
    trajectories = scored.group.trajectories + teacher.group.trajectories
    return replace(
        scored,
        group=replace(scored.group, trajectories=trajectories),
        rewards=scored.rewards + teacher.rewards,
        scores={name: row + teacher.scores[name] for name, row in scored.scores.items()},
        exits=scored.exits + teacher.exits,
    )
