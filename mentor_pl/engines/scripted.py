"""An engine that plays given tokens, for exact tests of what lies around an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from mentor_pl.engines.base import EngineSession, EngineStatistics, GenerationRequest, RolloutEngine, SamplingParams
from mentor_pl.errors import EngineError
from mentor_pl.trajectory import Completion


class ScriptedEngine(RolloutEngine):
    """Answers each request of a row with the next turn of its script; log-probabilities are 0.

    Every session plays the script from the start. The session also holds its caller to the plugin
    point's contract: a row that is continued must keep every token it had.
    """

    def __init__(self, script: Mapping[int, Sequence[Sequence[int]]], rows_per_poll: int | None = None) -> None:
        """Set the engine up.

        Args:
            script: Token ids per row and turn, with their stop tokens. A turn longer than a
                request's budget is cut there.
            rows_per_poll: Requests answered by one poll at most, in the order submitted; None
                answers all.
        """
        self._script = {row: tuple(tuple(turn) for turn in turns) for row, turns in script.items()}
        self._rows_per_poll = rows_per_poll
        self._version = 0

    def sync(self, model: nn.Module, version: int) -> None:
        """Only note the version."""
        self._version = version

    @contextmanager
    def session(self, sampling: SamplingParams, stop_token_ids: Sequence[int]) -> Iterator[EngineSession]:
        """Open a session; `sampling` is not used."""
        yield _ScriptedSession(self._script, frozenset(stop_token_ids), self._rows_per_poll, self._version)


class _ScriptedSession(EngineSession):
    def __init__(
        self,
        script: Mapping[int, tuple[tuple[int, ...], ...]],
        stop_token_ids: frozenset[int],
        rows_per_poll: int | None,
        version: int,
    ) -> None:
        self._script, self._stop_token_ids = script, stop_token_ids
        self._rows_per_poll, self._version = rows_per_poll, version
        self._turns_played: dict[int, int] = {}
        self._token_ids: dict[int, tuple[int, ...]] = {}
        self._queue: list[GenerationRequest] = []
        self._statistics = EngineStatistics()

    @property
    def statistics(self) -> EngineStatistics:
        return self._statistics

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        for request in requests:
            if any(queued.row == request.row for queued in self._queue):
                raise EngineError(f"row {request.row} was submitted twice; poll its completion first")
            known = self._token_ids.get(request.row, ())
            if request.token_ids[: len(known)] != known:
                at = next(i for i, (a, b) in enumerate(zip((*request.token_ids, -1), known, strict=False)) if a != b)
                raise EngineError(
                    f"row {request.row} was continued with other tokens than it had, from position {at} on"
                )
            self._queue.append(request)

    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        due = len(self._queue) if self._rows_per_poll is None else self._rows_per_poll
        batch, self._queue = self._queue[:due], self._queue[due:]
        return [(request.row, self._play(request)) for request in batch]

    def release(self, row: int) -> None:
        self._token_ids.pop(row, None)

    def _play(self, request: GenerationRequest) -> Completion:
        turn = self._turns_played.get(request.row, 0)
        turns = self._script.get(request.row, ())
        if turn >= len(turns):
            raise EngineError(f"row {request.row} asks for turn {turn + 1}; its script has {len(turns)}")
        token_ids = turns[turn][: request.max_new_tokens]
        self._turns_played[request.row] = turn + 1
        self._token_ids[request.row] = request.token_ids + token_ids
        self._statistics += EngineStatistics(
            prefill_tokens=len(request.token_ids), row_steps=len(token_ids), sampled_tokens=len(token_ids)
        )
        return Completion(
            token_ids=token_ids,
            logprobs=(0.0,) * len(token_ids),
            finish_reason="stop" if token_ids and token_ids[-1] in self._stop_token_ids else "length",
            policy_version=self._version,
        )
