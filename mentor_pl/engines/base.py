"""The plugin point for rollout engines (`mentor_pl.engines`): token ids in, sampled ids and log-probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from mentor_pl.errors import ConfigError
from mentor_pl.trajectory import Completion


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the fields of a default from its __dict__
class SamplingParams:
    """How tokens are drawn. Log-probabilities are those of exactly this distribution.

    Attributes:
        temperature: 0 is greedy decoding (log-probabilities are then the model's own, at
            temperature 1).
        top_k: Keep the k likeliest tokens; 0 keeps all.
        top_p: Keep the smallest set of likeliest tokens whose probability reaches this; 1 keeps
            all.
        min_p: Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for name, value, ok in (
            ("temperature", self.temperature, self.temperature >= 0),
            ("top_k", self.top_k, self.top_k >= 0),
            ("top_p", self.top_p, 0 < self.top_p <= 1),
            ("min_p", self.min_p, 0 <= self.min_p <= 1),
        ):
            if not ok:
                raise ConfigError(f"sampling.{name} is {value}; see SamplingParams for its range")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Sample one completion.

    Attributes:
        row: Identifies the trajectory within its session. A later request of the same row continues
            it: its `token_ids` then start with those of the earlier request and what was sampled,
            so that an engine may keep and extend a KV cache. Requests that share a prompt may share
            its prefill. Both are an engine's own affair: the ids are always complete.
        token_ids: The whole conversation so far.
        max_new_tokens: At least 1.
        seed: Together with the token's position in the conversation it decides the random number
            behind each token, so that what is sampled does not depend on which other rows happen to
            be live.
    """

    row: int
    token_ids: tuple[int, ...]
    max_new_tokens: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """What a session has computed so far.

    Attributes:
        prefill_tokens: Positions computed for tokens that were given, not sampled; padding counts.
        row_steps: Rows times steps at which a token was drawn; rows that were already done count.
        sampled_tokens: Tokens delivered in completions.
    """

    prefill_tokens: int = 0
    row_steps: int = 0
    sampled_tokens: int = 0

    @property
    def useful_share(self) -> float:
        """Share of the row steps that gave a token which was delivered; 1 before the first."""
        return self.sampled_tokens / self.row_steps if self.row_steps else 1.0

    def __add__(self, other: EngineStatistics) -> EngineStatistics:
        return EngineStatistics(
            prefill_tokens=self.prefill_tokens + other.prefill_tokens,
            row_steps=self.row_steps + other.row_steps,
            sampled_tokens=self.sampled_tokens + other.sampled_tokens,
        )


class EngineSession(ABC):
    """One rollout's dealings with an engine. Rows come, are continued and leave at any time; there is no turn barrier."""

    @abstractmethod
    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        """Queue requests. A row has at most one request under way."""

    @abstractmethod
    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        """Work until at least one request is complete; return the complete ones as (row, completion).

        Args:
            interrupt: Asked now and then; where it returns True (a tool's result has arrived),
                return early, perhaps with an empty list.

        Returns:
            An empty list at once where nothing is under way.

        Raises:
            EngineError: The engine failed.
        """

    @abstractmethod
    def release(self, row: int) -> None:
        """Forget a row that will not be continued."""

    @property
    def statistics(self) -> EngineStatistics:
        """What was computed so far, for logs; an engine that does not count gives zeros."""
        return EngineStatistics()


class RolloutEngine(ABC):
    """Samples completions with the student's weights. Constructor arguments are the engine's YAML keys.

    Check an implementation with `mentor_pl.testing.check_rollout_engine`.

    Attributes:
        holds_own_weights: Whether sampling uses a copy of the weights that only `sync` changes, so
            that it may go on while the trainer changes the model.
    """

    holds_own_weights: bool = False

    @abstractmethod
    def sync(self, model: nn.Module, version: int) -> None:
        """Take over the student's present weights.

        Args:
            model: The student, as the trainer holds it.
            version: Number of weight updates behind these weights; stamped on every completion.

        Raises:
            EngineError: The engine cannot serve this model, or does not hold these weights
                afterwards.
        """

    @abstractmethod
    def session(self, sampling: SamplingParams, stop_token_ids: Sequence[int]) -> AbstractContextManager[EngineSession]:
        """Open a session; a completion ends with the first of `stop_token_ids`, which it keeps."""

    def close(self) -> None:  # noqa: B027 - optional to override
        """Free what the engine holds. Called once."""
