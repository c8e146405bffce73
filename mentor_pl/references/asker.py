"""Questions to a chat model: each asked once, its reply kept on disk before it is used, within a budget."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mentor_pl.messages import Message
from mentor_pl.references.budget import Account, Budget, Spending
from mentor_pl.references.journal import Journal, journal_key
from mentor_pl.references.replies import kind_of_end
from mentor_pl.references.teacher import ChatTeacher, TeacherError


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model said.

    Attributes:
        text: Its words.
        whole: Whether it came to its end.
    """

    text: str
    whole: bool


class Asker:
    """Puts questions to a chat model. Called from many threads at once.

    Args:
        model: Who is asked.
        path: Journal of its replies. Each process of a run has its own: those after the first add
            their number to the name. Askers of one process may share it.
        budget: What may be spent in all, earlier runs with this journal included.
        max_unanswered_in_a_row: Questions in a row without an answer after which no more should be
            asked.
    """

    def __init__(self, model: ChatTeacher, path: Path, budget: Budget, *, max_unanswered_in_a_row: int) -> None:
        rank = _process_number()
        self.journal = _journal(path if not rank else path.with_name(f"{path.stem}.rank{rank}{path.suffix}"))
        spent = Spending(
            requests=self.journal.num_replies,
            prompt_tokens=self.journal.prompt_tokens,
            completion_tokens=self.journal.completion_tokens,
        )
        self.account = Account(budget, spent)
        self._model = model
        self._max_unanswered = max_unanswered_in_a_row
        self._unanswered_in_a_row = 0
        self._lock = threading.Lock()

    def ask(self, messages: Sequence[Message], *, ask: int = 0) -> Said:
        """Return what the model says next; what was asked before, in this run or an earlier one, is not asked again.

        Args:
            messages: The conversation so far.
            ask: How often this was asked before without a usable reply.

        Raises:
            BudgetSpentError: The request could exceed the budget.
            TeacherError: There is no reply; see `ChatTeacher.reply`.
        """
        key = self.key(messages, ask)
        row = self.journal.get("reply", key)
        if row is None:
            # No tokenizer makes more tokens than there are bytes.
            longest = len(json.dumps([message.to_openai() for message in messages]).encode())
            limit = self._model.max_completion_tokens
            with self.account.request(prompt_tokens=longest, completion_tokens=limit) as spending:
                reply = self._model.reply(messages, (), sample_index=ask, key=key)
                row = {
                    "message": reply.message.to_openai(),
                    "finish_reason": reply.finish_reason,
                    "prompt_tokens": reply.prompt_tokens,
                    "completion_tokens": reply.completion_tokens,
                }
                self.journal.put("reply", key, row)
                spending.requests = 1
                spending.prompt_tokens, spending.completion_tokens = reply.prompt_tokens, reply.completion_tokens
        with self._lock:
            self._unanswered_in_a_row = 0
        return Said(text=row["message"]["content"] or "", whole=kind_of_end(row["finish_reason"]) == "finished")

    def gives_up_after(self, failure: TeacherError, whom: str) -> str | None:
        """Count a question that had no answer.

        Args:
            failure: Why it had none.
            whom: Who was asked, for the message.

        Returns:
            None; or, where too many in a row had none, a message that says so and what to do.
        """
        with self._lock:
            self._unanswered_in_a_row += 1
            if self._unanswered_in_a_row < self._max_unanswered:
                return None
        return (
            f"{failure}; {self._max_unanswered} questions to {whom} in a row ended like this. Every reply is kept in "
            f"{self.journal.path}: go on when the endpoint is back"
        )

    def key(self, messages: Sequence[Message], ask: int = 0) -> str:
        """Return what names a question in the journal."""
        return journal_key(dict(self._model.identity), ask, [message.to_openai() for message in messages])


_journals: dict[Path, Journal] = {}
_opening = threading.Lock()


def _journal(path: Path) -> Journal:
    """Return this process's journal at a path."""
    with _opening:
        place = path.absolute()
        if place not in _journals:
            _journals[place] = Journal(place)
        return _journals[place]


def _process_number() -> int:
    """Return this process's number in a run on several devices, as launchers and Lightning put it into the environment."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0
