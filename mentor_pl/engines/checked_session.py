"""The boundary between an engine and a rollout: what breaks an engine's promise is an `EngineError`, never a strange run."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Integral
from typing import Any

from mentor_pl.engines.base import EngineSession, EngineStatistics, GenerationRequest, RolloutEngine, SamplingParams
from mentor_pl.errors import EngineError
from mentor_pl.plugins import keeping_contract
from mentor_pl.trajectory import Completion


@contextmanager
def checked_session(
    engine: RolloutEngine, sampling: SamplingParams, stop_token_ids: Sequence[int], vocab_size: int | None = None
) -> Generator[CheckedSession]:
    """Open a session of an engine.

    Args:
        engine: Whose session.
        sampling: How tokens are drawn.
        stop_token_ids: End a completion.
        vocab_size: Tokens that the model has embeddings for; ids are not held against it where None.

    Raises:
        EngineError: The engine raised, or gave none.
    """
    name = type(engine).__name__
    with ExitStack() as stack:
        with keeping_contract(name, ".session", EngineError):
            session: Any = stack.enter_context(engine.session(sampling, stop_token_ids))
        if not isinstance(session, EngineSession):
            raise EngineError(f"{name}.session gave {session!r:.100}; it gives an EngineSession")
        yield CheckedSession(session, name, vocab_size)


class CheckedSession(EngineSession):
    """Another session, whose completions are checked.

    Raises:
        EngineError: It raised. Also on `poll`: a completion is of a row that is not under way, is empty or too
            long, or has token ids that are none, or log-probabilities that are not finite numbers of at most 0, one for each
            token; or nothing comes back of rows that are under way.
    """

    def __init__(self, session: EngineSession, engine_name: str, vocab_size: int | None = None) -> None:
        self._session, self._engine_name = session, engine_name
        self._vocab_size = math.inf if vocab_size is None else vocab_size
        self._under_way: dict[int, GenerationRequest] = {}

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        """Queue requests."""
        self._under_way |= {request.row: request for request in requests}
        with keeping_contract(self._engine_name, ".submit", EngineError):
            self._session.submit(requests)

    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        """Return what is complete; see `EngineSession.poll`."""
        interrupted = False

        def asked() -> bool:
            nonlocal interrupted
            interrupted = interrupted or (interrupt is not None and interrupt())
            return interrupted

        with keeping_contract(self._engine_name, ".poll", EngineError):
            done = [(row, completion) for row, completion in self._session.poll(asked)]
            for row, completion in done:
                self._check(row, completion)
                del self._under_way[row]
        if not done and self._under_way and not interrupted:
            lost = sorted(self._under_way)
            raise EngineError(
                f"{self._engine_name} lost {len(lost)} rows, for example row {lost[0]}: it has nothing more to do and never completed "
                "them; name another engine in model.engine, for example HFGenerateEngine"
            )
        return done

    def release(self, row: int) -> None:
        """Forget a row."""
        self._under_way.pop(row, None)
        with keeping_contract(self._engine_name, ".release", EngineError):
            self._session.release(row)

    @property
    def statistics(self) -> EngineStatistics:
        """What was computed so far."""
        with keeping_contract(self._engine_name, ".statistics", EngineError):
            return self._session.statistics

    def _check(self, row: int, completion: Completion) -> None:
        request = self._under_way.get(row)
        count = len(completion.token_ids)
        if request is None:
            found = "a completion that nobody asked for"
        elif not 0 < count <= request.max_new_tokens:
            found = f"a completion of {count} tokens; 1 to {request.max_new_tokens} were asked for"
        elif wrong := [token for token in completion.token_ids if not isinstance(token, Integral) or token < 0]:
            found = f"{wrong[0]!r:.40} as a token id; an id is a whole number from 0"
        elif (highest := max(completion.token_ids)) >= self._vocab_size:
            found = f"{highest} as a token id; the model's vocabulary has {self._vocab_size} tokens, from 0"
        elif len(completion.logprobs) != count:
            found = f"{len(completion.logprobs)} log-probabilities for {count} tokens"
        elif bad := [p for p in completion.logprobs if not (math.isfinite(p) and p <= _ROUNDING)]:
            found = f"a log-probability of {bad[0]}"
        else:
            return
        raise EngineError(
            f"{self._engine_name} returned for row {row} {found}; the weights may hold numbers that are not finite, or the engine is "
            "broken: name another one in model.engine, for example HFGenerateEngine"
        )


_ROUNDING = 1e-3
"""A certain token's log-probability may come out a little above 0."""
