"""How one trajectory's reward comes about, said once for programs, notebooks and `mentor-pl score --explain`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mentor_pl.reference import Reference
from mentor_pl.rewards.program import RewardProgram, RewardTerm, ScoredGroup, has_teacher
from mentor_pl.trajectory import Trajectory, TrajectoryGroup


def as_shown(value: float) -> str:
    """Return a score or reward for people; "none" where it could not be told."""
    return "none" if math.isnan(value) else f"{value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TermShare:
    """What one term does to a reward.

    Attributes:
        term: The term.
        score: Its component's score, in [0, 1].
        gate_score: Score of its gate; None where it has none.
        adds: What it adds to the reward of a trajectory that takes no exit.
    """

    term: RewardTerm
    score: float
    gate_score: float | None
    adds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How one trajectory's reward comes about; as text (`str`) in lines.

    Attributes:
        reference_id: The reference that the trajectory names.
        sample_index: Its position within its group.
        reward: Its reward.
        left_by: Name of the exit that it took, after which the terms do not count; None where it
            took none.
        terms: Each term's share, in the program's order.
    """

    reference_id: str
    sample_index: int
    reward: float
    left_by: str | None
    terms: tuple[TermShare, ...]

    def __str__(self) -> str:
        lines = [f"{self.reference_id}: reward {as_shown(self.reward)}"]
        if self.left_by is not None:
            lines.append(f"  left by the exit {self.left_by!r}; the terms do not count")
        for share in self.terms:
            term = share.term
            gate = f", gated on {term.gate} with floor {term.gate_floor:g}" if term.gate else ""
            adds = f" = {share.adds:+g}" if self.left_by is None else ""
            lines.append(f"  {term.name}: score {as_shown(share.score)} x weight {term.weight:g}{gate}{adds}")
        return "\n".join(lines)


def explain(program: RewardProgram, trajectory: Trajectory, references: Sequence[Reference]) -> Explanation:
    """Score one trajectory and say how its reward comes about.

    Raises:
        RewardError: As in `RewardProgram.score_group`.
    """
    group = TrajectoryGroup(references=tuple(references), trajectories=(trajectory,))
    return explain_scored(program, program.score_group(group))


def explain_scored(program: RewardProgram, scored: ScoredGroup, index: int = 0) -> Explanation:
    """Say how the reward of one trajectory of a scored group comes about.

    Args:
        program: What scored it.
        scored: The group.
        index: The trajectory's position in it.
    """
    trajectory = scored.group.trajectories[index]
    scores = {name: row[index] for name, row in scored.scores.items()}
    added = program.contributions(scores, guided=has_teacher(scored.group.references))
    return Explanation(
        reference_id=trajectory.reference_id,
        sample_index=trajectory.sample_index,
        reward=scored.rewards[index],
        left_by=scored.exits[index],
        terms=tuple(
            TermShare(
                term=term,
                score=scores[term.name],
                gate_score=scores[term.gate] if term.gate else None,
                adds=added[term.name],
            )
            for term in program.terms
        ),
    )
