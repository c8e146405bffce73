"""Many prompts at once, tried by a teacher behind an endpoint."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

from mentor_pl.reference import Reference
from mentor_pl.references.attempt import Attempt, AttemptLimits, Endpoint, WithheldError
from mentor_pl.references.budget import BudgetSpentError
from mentor_pl.references.collect import Outcome, Sampling, Select, Solver
from mentor_pl.references.teacher import ConversationRefusedError, Stopped, TeacherError, UnavailableError
from mentor_pl.rollout.user import User
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Trajectory

_WINDOW = 4
"""Prompts under way for each thread: results are handed out in order, and one slow prompt must not make the others wait."""

_GO_ON = "Nothing paid for is lost: start again with the same journal when that is mended"


class EndpointSolver(Solver):
    """Tries prompts at an endpoint, many at once.

    It gives up where the endpoint does: unavailable or refusing so often in a row, or never taking
        any prompt.

    Args:
        endpoint: Teacher, journal and budget.
        toolbox: Runs the teacher's calls.
        sampling: How often a prompt is tried.
        limits: Of one attempt.
        user: Speaks with the teacher once a prompt's own follow-ups are said; nobody where None.

    Raises:
        ConfigError: Several samples at temperature 0 would all be the same.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        toolbox: ToolBox,
        sampling: Sampling,
        limits: AttemptLimits,
        user: User | None = None,
    ) -> None:
        sampling.check_temperature(endpoint.teacher.identity.get("temperature"))
        self._endpoint, self._toolbox, self._sampling, self._limits = endpoint, toolbox, sampling, limits
        self._user = user
        self._taken = 0
        self._unavailable_in_a_row = self._refused_in_a_row = 0
        self._words: dict[str, str] = {}
        self._last: TeacherError | None = None
        self._given_up: TeacherError | None = None
        self._counting = threading.Lock()

    def outcomes(self, prompts: Iterable[Reference], select: Select) -> Iterator[Outcome]:
        """Try prompts."""
        waiting: deque[Future[Outcome]] = deque()
        source = iter(prompts)
        pool = ThreadPoolExecutor(self._sampling.concurrency, thread_name_prefix="collect")
        try:
            while True:
                while len(waiting) < _WINDOW * self._sampling.concurrency and (prompt := next(source, None)):
                    waiting.append(pool.submit(self._try, prompt, select))
                if not waiting:
                    break
                yield waiting.popleft().result()
        finally:
            self._endpoint.stop.set()
            self._endpoint.teacher.stop()
            pool.shutdown(wait=True, cancel_futures=True)
        if self._last is not None and not self._taken:
            raise TeacherError(f"teacher {self._endpoint.teacher.name!r} took no prompt: {self._last}. {_GO_ON}")

    def _try(self, prompt: Reference, select: Select) -> Outcome:
        return select(prompt, (self._attempt(prompt, sample) for sample in range(self._sampling.samples)))

    def _attempt(self, prompt: Reference, sample: int) -> Trajectory | str:
        if self._given_up is not None:  # by another thread: nothing more is asked, and the first word stands
            raise self._given_up
        attempt = Attempt(
            prompt, sample, endpoint=self._endpoint, toolbox=self._toolbox, limits=self._limits, user=self._user
        )
        try:
            trajectory = attempt.run()
        except BudgetSpentError:
            return "the budget is spent"
        except Stopped:
            return "stopped"
        except WithheldError as failure:
            self._taken += 1
            return f"broken off by the endpoint ({failure!s:.40})"
        except ConversationRefusedError as failure:
            return self._refused(failure)
        except UnavailableError as failure:
            return self._unavailable(failure)
        self._taken += 1
        self._unavailable_in_a_row = self._refused_in_a_row = 0
        return trajectory

    def _unavailable(self, failure: UnavailableError) -> str:
        self._last = failure
        with self._counting:
            self._unavailable_in_a_row += 1
            if self._unavailable_in_a_row >= self._sampling.max_unavailable_in_a_row:
                self._give_up(
                    f"{failure}; {self._unavailable_in_a_row} attempts in a row failed like this. Nothing paid for is lost: "
                    "start again with the same journal when the endpoint is back",
                    failure,
                )
        return "the teacher did not answer"

    def _refused(self, failure: ConversationRefusedError) -> str:
        self._last = failure
        with self._counting:
            if failure.common:
                self._refused_in_a_row += 1
            if self._refused_in_a_row >= self._sampling.max_refused_in_a_row:
                self._give_up(
                    f"teacher {self._endpoint.teacher.name!r} answers {failure}; {self._refused_in_a_row} attempts in a "
                    f"row were refused like this. {_GO_ON}",
                    failure,
                )
        # Words may name lengths and ids: the first ones stand for all of a status, so that causes can be counted.
        status = str(failure).partition(":")[0]
        return f"refused by the endpoint ({self._words.setdefault(status, str(failure))})"

    def _give_up(self, message: str, cause: TeacherError) -> NoReturn:
        if self._given_up is None:
            self._given_up = TeacherError(message)
            self._given_up.__cause__ = cause
        raise self._given_up
