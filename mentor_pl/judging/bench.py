"""A judge's replies: each asked for once, kept on disk before it is used, within a budget, many at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mentor_pl.errors import RewardError
from mentor_pl.messages import Message
from mentor_pl.references.asker import Asker
from mentor_pl.references.budget import Budget, BudgetSpentError
from mentor_pl.references.teacher import ChatTeacher, ConversationRefusedError, TeacherError, UnavailableError
from mentor_pl.rewards.base import NoScore

_log = logging.getLogger(__name__)
_AGAIN = "That was no verdict: reply with the JSON object alone, every criterion in it, whole numbers only."

Verdict = float | NoScore


class Bench:
    """Where questions are put to a judge.

    Args:
        model: The judge.
        path: Journal of its replies. Each process of a run has its own: those after the first add
            their number to the name.
        budget: What may be spent in all, earlier runs with this journal included.
        concurrency: Questions under way at once.
        max_asks: How often one question is put, where a reply holds no verdict.
        max_unanswered_in_a_row: Questions in a row without an answer after which the run ends.
    """

    def __init__(
        self,
        model: ChatTeacher,
        path: Path,
        budget: Budget,
        *,
        concurrency: int,
        max_asks: int,
        max_unanswered_in_a_row: int,
    ) -> None:
        self._asker = Asker(model, path, budget, max_unanswered_in_a_row=max_unanswered_in_a_row)
        self._max_asks = max_asks
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="judge")
        self._under_way: dict[str, Future[Verdict]] = {}
        self._lock = threading.RLock()  # a future that is done already forgets itself in the thread that holds it

    def verdicts(self, questions: Sequence[Sequence[Message]], read: Callable[[str], float | None]) -> list[Verdict]:
        """Put questions, those that are alike once.

        Args:
            questions: Conversations that the judge is to continue.
            read: Gives the score that a reply holds; None where it holds none.

        Raises:
            RewardError: The budget is spent, the judge cannot be used, or it does not answer any
                more.
        """
        waiting = [self._ask_once(question, read) for question in questions]
        return [future.result() for future in waiting]

    def _ask_once(self, question: Sequence[Message], read: Callable[[str], float | None]) -> Future[Verdict]:
        key = self._asker.key(question)
        with self._lock:
            future = self._under_way.get(key)
            if future is None:
                future = self._under_way[key] = self._pool.submit(self._ask, question, read)
                future.add_done_callback(lambda _: self._forget(key))
        return future

    def _forget(self, key: str) -> None:
        with self._lock:
            self._under_way.pop(key, None)

    def _ask(self, question: Sequence[Message], read: Callable[[str], float | None]) -> Verdict:
        messages = list(question)
        for ask in range(self._max_asks):
            try:
                said = self._asker.ask(messages, ask=ask)
            except ConversationRefusedError as failure:
                if failure.common:  # a setting, which will be refused for the next question too
                    return self._unanswered(failure)
                return NoScore(reason=f"the judge's endpoint refused to read it ({failure})")
            except UnavailableError as failure:
                return self._unanswered(failure)
            except BudgetSpentError:
                raise RewardError(
                    f"the judge's budget is spent after {self._asker.account.spent.requests} replies, {self._asker.account.cost:g} paid; "
                    f"raise LLMJudge.budget. Every verdict is kept in {self._asker.journal.path}"
                ) from None
            except TeacherError as failure:
                raise RewardError(f"the judge cannot be used: {failure}") from failure
            score = read(said.text) if said.whole else None
            if score is not None:
                return score
            messages += [Message(role="assistant", content=said.text), Message(role="user", content=_AGAIN)]
        return NoScore(reason=f"the judge gave no verdict in {self._max_asks} replies")

    def _unanswered(self, failure: TeacherError) -> NoScore:
        if message := self._asker.gives_up_after(failure, "the judge"):
            raise RewardError(message) from failure
        return NoScore(reason=str(failure))
