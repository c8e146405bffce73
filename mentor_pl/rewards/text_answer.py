"""Does the final answer say what one of the accepted answers says? For question answering."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from mentor_pl.errors import ConfigError
from mentor_pl.reference import Reference
from mentor_pl.rewards.answers import AnswerPlace, final_answer, unboxed
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.trajectory import Trajectory

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED_ANSWERS = ("yes", "no", "noanswer")


def normalised(text: str) -> str:
    """Return a text in lower case, without punctuation, articles and surplus white space.

    The normalisation of SQuAD's evaluation script (arXiv:1606.05250), which HotpotQA,
    2WikiMultihopQA and Bamboogle use too.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> float:
    """Return 1 where two normalised texts are equal."""
    return float(normalised(answer) == normalised(gold))


def token_f1(answer: str, gold: str) -> float:
    """Return the F1 of the words of two normalised texts, with their multiplicity.

    As in HotpotQA's script (arXiv:1809.09600), yes and no share nothing with any other answer.
    """
    mine, its = normalised(answer), normalised(gold)
    if mine != its and (mine in _CLOSED_ANSWERS or its in _CLOSED_ANSWERS):
        return 0.0
    words, wanted = mine.split(), its.split()
    common = sum((Counter(words) & Counter(wanted)).values())
    return 2 * common / (len(words) + len(wanted)) if common else 0.0


def contains(answer: str, gold: str) -> float:
    """Return 1 where the right answer's words stand, whole and in their order, somewhere in the student's."""
    return float(f" {normalised(gold)} " in f" {normalised(answer)} ")


_MEASURES: dict[str, Callable[[str, str], float]] = {"exact": exact_match, "f1": token_f1, "contains": contains}


class TextAnswer(RewardComponent):
    """How well the final answer agrees with an accepted one, as question answering measures it; the best counts."""

    def __init__(
        self,
        measure: Literal["exact", "f1", "contains"] = "exact",
        place: AnswerPlace = "last_box",
        max_words: int = 50,
    ) -> None:
        r"""Choose the measure.

        Args:
            measure: "exact" match and token "f1" of SQuAD and HotpotQA; "contains": the right
                answer stands in the student's.
            place: Where the answer is looked for in the last message: in the last `\boxed{}`, in
                the only one (two are no answer), or in the whole text.
            max_words: With "contains", longer answers score 0: who lists everything contains
                everything.

        Raises:
            ConfigError: The measure is not known, or `max_words` is less than 1.
        """
        if measure not in _MEASURES:
            raise ConfigError(f"TextAnswer: measure is {measure!r}; it must be one of {', '.join(_MEASURES)}")
        if max_words < 1:
            raise ConfigError(f"TextAnswer: max_words is {max_words}; it must be at least 1")
        self.measure, self.max_words = measure, max_words
        self.place: AnswerPlace = place

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        """Compare the final answer with every accepted one."""
        answer = final_answer(trajectory, self.place)
        if answer is None or (self.measure == "contains" and len(answer.split()) > self.max_words):
            return 0.0
        golds = [unboxed(gold) for reference in references for gold in reference.answers]
        return max((_MEASURES[self.measure](answer, gold) for gold in golds if normalised(gold)), default=0.0)
