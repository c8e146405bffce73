"""Turn-level credit by the teacher's calls."""

from __future__ import annotations

from torch import Tensor

from mentor_pl.advantages.base import AdvantageEstimator, GroupRewards
from mentor_pl.advantages.group_standardized import GroupStandardized
from mentor_pl.messages import ToolCall, ToolResult
from mentor_pl.reference import Reference
from mentor_pl.trajectory import Trajectory


class TeacherAligned(AdvantageEstimator):
    """GRPO's advantages, moved turn by turn by how well its calls agree with the teacher's. Ours; no critic, no teacher's logits.

    A call scores 1 where the teacher made the same call (name and arguments) and it succeeded, 0.5
    where only the name agrees, else 0; each call of the teacher's is used up once, in order of the
    student's turns. With several references, the one that a trajectory agrees with best counts. A
    turn with calls has A + weight * (mean score of its calls - mean over all such turns of the
    group), other turns A alone. So a good call in a bad trajectory is blamed less than its
    neighbours.

    Args:
        weight: Weight of the agreement.
        spare_agreeing: Whether a turn whose calls all score 1 is never pushed down: its advantage
            is at least 0.
        min_std: Floor of the divisor; see `GroupStandardized`.
    """

    def __init__(self, weight: float = 0.5, spare_agreeing: bool = True, min_std: float = 0.0) -> None:
        self.weight = weight
        self.spare_agreeing = spare_agreeing
        self._outcome = GroupStandardized(min_std)

    def __call__(self, group: GroupRewards) -> Tensor:
        """Compare whole trajectories; see `AdvantageEstimator.__call__`."""
        return self._outcome(group)

    def per_turn(self, group: GroupRewards) -> list[list[float]]:
        """See `AdvantageEstimator.per_turn`."""
        outcome = self(group).tolist()
        scores = [_best(trajectory, group.references) for trajectory in group.trajectories]
        known = [score for row in scores for score in row if score is not None]
        mean = sum(known) / len(known) if known else 0.0
        return [[self._credit(value, score, mean) for score in row] for value, row in zip(outcome, scores, strict=True)]

    def _credit(self, outcome: float, score: float | None, mean: float) -> float:
        if score is None:
            return outcome
        credit = outcome + self.weight * (score - mean)
        return max(credit, 0.0) if self.spare_agreeing and score == 1.0 else credit


def _best(trajectory: Trajectory, references: tuple[Reference, ...]) -> list[float | None]:
    """Score the turns against the reference that they agree with best; None for a turn whose calls were not run."""
    rows = [_scores(trajectory, reference) for reference in references if reference.tool_calls]
    if not rows:
        return [None] * len(trajectory.turns)
    return max(rows, key=lambda row: sum(score for score in row if score is not None))


def _scores(trajectory: Trajectory, reference: Reference) -> list[float | None]:
    left = list(reference.tool_calls)
    out: list[float | None] = []
    for turn in trajectory.turns:
        if not turn.tool_results:
            out.append(None)
            continue
        pairs = list(zip(turn.message.tool_calls, turn.tool_results, strict=True))
        out.append(sum(_score(call, result, left) for call, result in pairs) / len(pairs))
    return out


def _score(call: ToolCall, result: ToolResult, left: list[ToolCall]) -> float:
    """Score one call, and use the teacher's up."""
    if not result.ok:
        return 0.0
    same = [theirs for theirs in left if theirs.name == call.name]
    exact = [theirs for theirs in same if theirs.arguments == call.arguments]
    if not same:
        return 0.0
    left.remove((exact or same)[0])
    return 1.0 if exact else 0.5
