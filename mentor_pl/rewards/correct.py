"""Was the final answer right?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference
from mentor_pl.rewards.answers import AnswerPlace, final_answer, unboxed
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.judges import Judge, element_by_element, equal_as_numbers
from mentor_pl.rewards.math_judge import equal_in_mathematics
from mentor_pl.rewards.plain_text import equal_as_text
from mentor_pl.trajectory import Trajectory


class Correct(RewardComponent):
    """1 where the student finished with the right answer, else 0. Right is what agrees with any reference of the prompt."""

    def __init__(
        self,
        judge: Literal["math", "exact", "numeric"] = "math",
        place: AnswerPlace = "last_box",
        strict_lists: bool = False,
        tolerance: float = 1e-6,
        timeout_s: float = 5.0,
        calculations: bool = False,
    ) -> None:
        r"""Choose the judge.

        Args:
            judge: "math" compares mathematical objects by math-verify (1/2 is 0.5, x+1 is 1+x) and,
                where the right answer is a word, a date or a code, texts; "exact" always texts,
                whatever their case and white space; "numeric" numbers.
            place: Where the answer is looked for in the last message: in the last `\boxed{}`, in
                the only one (two are no answer), or in the whole text.
            strict_lists: Compare lists, tuples, sets and intervals element by element, in order and
                with the same brackets, so that {2,1} is not {1,2}.
            tolerance: Relative tolerance of the judge "numeric".
            timeout_s: Seconds after which the judge "math" gives up and the answer counts as wrong.
            calculations: Let the judge "math" take an answer that is still to be worked out, 17 *
                23 where 391 is right. It pays a student for leaving the work to the judge instead
                of to a tool.

        Raises:
            ConfigError: A value lies outside its range.
        """
        for name, value in (("tolerance", tolerance), ("timeout_s", timeout_s)):
            if value <= 0:
                raise ConfigError(f"Correct: {name} is {value}; it must be greater than 0")
        judges: dict[str, Judge] = {
            "math": partial(equal_in_mathematics, timeout_s=timeout_s, calculations=calculations),
            "exact": equal_as_text,
            "numeric": partial(equal_as_numbers, tolerance=tolerance),
        }
        if judge not in judges:
            raise ConfigError(f"Correct: judge is {judge!r}; it must be one of {', '.join(judges)}")
        self.place: AnswerPlace = place
        self._judge = element_by_element(judges[judge]) if strict_lists else judges[judge]

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Compare the final answer with that of each reference."""
        answer = final_answer(trajectory, self.place)
        if answer is None:
            return 0.0
        golds = dict.fromkeys(answer for reference in references for answer in reference.answers)
        return float(any(self._judge(answer, unboxed(gold)) for gold in golds))
