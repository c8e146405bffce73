"""The rungs between imitation and exploration, as one setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mentor_pl.errors import ConfigError
from mentor_pl.guidance.curriculum import Curriculum
from mentor_pl.guidance.difficulty_pools import DifficultyPools
from mentor_pl.guidance.distillation import Distillation
from mentor_pl.guidance.dynamic_sampling import DynamicSampling
from mentor_pl.guidance.hints import Hints
from mentor_pl.guidance.imitation import Imitation
from mentor_pl.guidance.teacher_in_group import TeacherInGroup
from mentor_pl.rewards.base import NoScore
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.trajectory import TrajectoryGroup


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class Guidance:
    """Guidance by the teacher beyond the reward. Each part may be left out; without all of them, only the reward guides.

    Attributes:
        success: Name of the reward term whose score of at least 0.5 is a success, in every
            environment. Unless given, each environment's own: the term with `success: true`, else
            `correct`.
        curriculum: Opens the prompts, the easiest first.
        difficulty_pools: Divides a round among prompts by how often they succeed.
        dynamic_sampling: Replaces prompts whose groups hold no signal.
        hints: Attempts behind the teacher's first calls.
        teacher_in_group: The teacher's solution as a member of the group.
        imitation: The teacher's solution as a supervised term.
        distillation: A teacher judges every token that the student sampled.
    """

    success: str | None = None
    curriculum: Curriculum | None = None
    difficulty_pools: DifficultyPools | None = None
    dynamic_sampling: DynamicSampling | None = None
    hints: Hints | None = None
    teacher_in_group: TeacherInGroup | None = None
    imitation: Imitation | None = None
    distillation: Distillation | None = None

    @property
    def adds_teacher_tokens(self) -> bool:
        """Whether tokens of the teacher's are trained on."""
        return self.teacher_in_group is not None or self.imitation is not None

    @property
    def chooses_by_difficulty(self) -> bool:
        """Whether a prompt's difficulty decides when it is tried."""
        return self.curriculum is not None or self.difficulty_pools is not None

    def check(self, reward: RewardProgram) -> None:
        """Check that the reward program can tell what a success is.

        Raises:
            ConfigError: It has no such term.
        """
        asks = self.difficulty_pools or self.dynamic_sampling or self.hints or self.teacher_in_group
        names = [term.name for term in reward.terms]
        if not asks or (self.success or reward.success_term) in names:
            return
        if self.success is None:
            raise ConfigError(
                f"data.guidance asks which attempts succeed, and no term of a reward program says so; the terms are {', '.join(names)}: "
                "give one of them `success: true`, or name one as data.guidance.success"
            )
        raise ConfigError(
            f"data.guidance.success is {self.success!r}, which is not a term of the reward program; the terms are {', '.join(names)}"
        )

    def success_term(self, reward: RewardProgram) -> str:
        """Return the name of the term whose score says what a success is; `check` has looked for it."""
        name = self.success or reward.success_term
        assert name is not None
        return name

    def successes(self, reward: RewardProgram, group: TrajectoryGroup) -> list[bool]:
        """Tell which trajectories of a group succeed. What the infrastructure broke does not."""
        name = self.success_term(reward)
        component = next(term.component for term in reward.terms if term.name == name)
        return self.of_scores(component.score_group(group), group)

    def success_share(self, reward: RewardProgram, scored: ScoredGroup) -> float | None:
        """Return the share of successes among a group's own attempts; None where there is none, or nothing tells.

        Attempts with a hint, and what the infrastructure broke, do not count.
        """
        name = self.success or reward.success_term
        if name not in scored.scores:
            return None
        group = scored.group
        successes = self.of_scores(scored.scores[name], group)
        counted = [
            success
            for success, trajectory in zip(successes, group.trajectories, strict=True)
            if not trajectory.given_turns and not trajectory.failed_infrastructure
        ]
        return sum(counted) / len(counted) if counted else None

    @staticmethod
    def of_scores(scores: Sequence[float | NoScore], group: TrajectoryGroup) -> list[bool]:
        """As `successes`, from the scores of the term. What could not be told is no success."""
        return [
            not isinstance(score, NoScore) and score >= 0.5 and not trajectory.failed_infrastructure
            for score, trajectory in zip(scores, group.trajectories, strict=True)
        ]
