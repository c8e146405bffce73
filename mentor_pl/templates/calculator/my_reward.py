"""A reward of your own: one class with one method. `reward.yaml` names it `my_reward.FewTurns`."""

from collections.abc import Sequence

from mentor_pl.reference import Reference
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class FewTurns(RewardComponent):
    """1 up to `free_turns` turns, then half as much for each further turn.

    Args:
        free_turns: Turns that cost nothing.
    """

    def __init__(self, free_turns: int = 3) -> None:
        self.free_turns = free_turns

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Return the score of one trajectory, in [0, 1]. `references` are the teacher's solutions."""
        return 0.5 ** max(0, len(trajectory.turns) - self.free_turns)
