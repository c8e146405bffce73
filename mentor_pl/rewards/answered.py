"""Did the student give an answer at all?"""

from __future__ import annotations

from collections.abc import Sequence

from mentor_pl.reference import Reference
from mentor_pl.rewards.answers import AnswerPlace, final_answer
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory


class Answered(RewardComponent):
    """1 where the student finished with an answer, right or wrong, else 0."""

    def __init__(self, place: AnswerPlace = "last_box") -> None:
        r"""Say where an answer is looked for; give the same as to `Correct`.

        Args:
            place: In the last message: in the last `\boxed{}`, in the only one (two are no answer),
                or in the whole text.
        """
        self.place: AnswerPlace = place

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Look for an answer."""
        return float(final_answer(trajectory, self.place) is not None)
