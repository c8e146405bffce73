"""A language model that plays a part: asked once for each situation, retried, within a budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from mentor_pl.errors import ConfigError, MentorError, ToolBackendError
from mentor_pl.messages import Message
from mentor_pl.references.asker import Asker
from mentor_pl.references.budget import Budget, BudgetSpentError
from mentor_pl.references.openai_teacher import OpenAITeacher
from mentor_pl.references.teacher import ChatTeacher, ConversationRefusedError, TeacherError, UnavailableError

__all__ = ["OpenAITeacher", "SimulatorSettings", "Simulator"]  # jsonargparse finds by its bare name what is imported


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class SimulatorSettings:
    """How a simulating model is asked.

    Attributes:
        budget: What may be spent in all, earlier runs with this journal included; no limit unless
            given.
        max_asks: How often one question is put where a reply is empty or cut off.
        max_unanswered_in_a_row: Questions in a row without an answer, in spite of every retry,
            after which the run ends.
    """

    budget: Budget | None = None
    max_asks: int = 3
    max_unanswered_in_a_row: int = 20

    def __post_init__(self) -> None:
        for name in ("max_asks", "max_unanswered_in_a_row"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"simulator settings: {name} is {value}; it must be at least 1")


class Simulator:
    """Puts situations to a model. Called from many threads at once; the same situation is answered once.

    Args:
        part: What the model plays, for messages: "user", "tool".
        model: Who plays it.
        cache: Journal of all replies; it is opened with the first question.
        settings: How often it is asked, and what that may cost.
    """

    def __init__(self, part: str, model: ChatTeacher, cache: Path, settings: SimulatorSettings) -> None:
        self._part, self._model, self._cache, self._settings = part, model, cache, settings
        self._lock = threading.Lock()
        self._asker: Asker | None = None
        self._under_way: dict[str, Future[str]] = {}

    def say(self, question: Sequence[Message], read: Callable[[str], str | None]) -> str:
        """Return what the model says.

        Args:
            question: The conversation that it continues.
            read: Gives what a whole reply holds; None where it cannot be used.

        Raises:
            ToolBackendError: There is no reply, and nobody's doing is to blame.
            MentorError: No further question will be answered: the budget is spent, the key refused,
                the server gone.
        """
        asker = self._open()
        key = asker.key(question)
        with self._lock:
            under_way = self._under_way.get(key)
            if under_way is None:
                mine = self._under_way[key] = Future()
        if under_way is not None:
            return under_way.result()
        try:
            said = self._ask(asker, question, read)
            mine.set_result(said)
            return said
        except BaseException as failure:
            mine.set_exception(failure)
            raise
        finally:
            with self._lock:
                del self._under_way[key]

    def _ask(self, asker: Asker, question: Sequence[Message], read: Callable[[str], str | None]) -> str:
        for ask in range(self._settings.max_asks):
            try:
                said = asker.ask(question, ask=ask)
            except ConversationRefusedError as failure:
                if failure.common:  # a setting, which will be refused for the next question too
                    self._unanswered(asker, failure)
                raise ToolBackendError(
                    f"the simulated {self._part}'s endpoint refuses this one ({failure})"
                ) from failure
            except UnavailableError as failure:
                self._unanswered(asker, failure)
                raise ToolBackendError(f"the simulated {self._part} does not answer ({failure})") from failure
            except BudgetSpentError:
                raise MentorError(
                    f"the simulated {self._part}'s budget is spent after {asker.account.spent.requests} replies, "
                    f"{asker.account.cost:g} paid; raise its settings.budget. Every reply is kept in {asker.journal.path}"
                ) from None
            except TeacherError as failure:
                raise MentorError(f"the simulated {self._part} cannot be used: {failure}") from failure
            if said.whole and (usable := read(said.text)) is not None:
                return usable
        raise ToolBackendError(f"the simulated {self._part} gave nothing usable in {self._settings.max_asks} replies")

    def _unanswered(self, asker: Asker, failure: TeacherError) -> None:
        if message := asker.gives_up_after(failure, f"the simulated {self._part}"):
            raise MentorError(message) from failure

    def _open(self) -> Asker:
        with self._lock:  # opened on first use: reading a config must not lock the journal
            if self._asker is None:
                self._asker = Asker(
                    self._model,
                    self._cache,
                    self._settings.budget or Budget(),
                    max_unanswered_in_a_row=self._settings.max_unanswered_in_a_row,
                )
            return self._asker
