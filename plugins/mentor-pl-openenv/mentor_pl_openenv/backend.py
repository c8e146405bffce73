"""The backend: an OpenEnv environment's actions as tools."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.tools.arguments import ArgumentsValidator
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused
from mentor_pl_openenv.connection import Connection
from mentor_pl_openenv.episode import Episode
from mentor_pl_openenv.offers import Offer, read_offer


class OpenEnv(ToolBackend):
    """An environment behind an OpenEnv server. Each trajectory is an episode in a session of its own.

    An environment with one kind of action is one tool, whose arguments are the action's fields; an
    MCP environment has the tools that it lists. What a call leads to is the observation; where the
    episode is done, the trajectory ends (`StopReason.CALLED`). The environment's state is the
    trajectory's `final_state`, its reward the `environment_score` that `EnvironmentScore` pays.

    Args:
        url: The server, for example `http://localhost:8000`.
        name: Of the tool that an action becomes; the environment's own unless given.
        description: Of that tool, for the model; the environment's own unless given.
        reset_field: Field of a reference's row with arguments of the environment's `reset`, for
            example `{seed: 3}`.
        shown: Field of an observation that a model is shown; the whole observation, as JSON, unless
            given.
        reward: Which of an episode's rewards count: the `last`, the largest (`max`), or their
            `sum`.
        reward_range: The rewards that are worth 0 and 1; what lies between is worth its share, what
            lies outside the end.
        timeout_s: Seconds of one step; it is the caller's to keep.
        start_timeout_s: Seconds for reaching the server.
        max_output_chars: Longer answers are cut, with a line that says so.

    Raises:
        ConfigError: A value cannot be one.
        ToolBackendError: The server cannot be reached.
    """

    slow = True
    stateful = True
    tells_state = True

    def __init__(
        self,
        url: str,
        name: str | None = None,
        description: str | None = None,
        reset_field: str = "reset",
        shown: str | None = None,
        reward: Literal["last", "max", "sum"] = "last",
        reward_range: tuple[float, float] = (0.0, 1.0),
        timeout_s: float = 30.0,
        start_timeout_s: float = 30.0,
        max_output_chars: int = 10_000,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"OpenEnv.url is {url!r}; give the server's address, for example http://localhost:8000")
        if not reward_range[0] < reward_range[1]:
            raise ConfigError(f"OpenEnv.reward_range is {list(reward_range)}; its first number must be the lower one")
        limits = {"timeout_s": timeout_s, "start_timeout_s": start_timeout_s, "max_output_chars": max_output_chars}
        for key, value in limits.items():
            if value <= 0:
                raise ConfigError(f"OpenEnv.{key} is {value}; it must be above 0")
        self._url, self.reset_field, self._shown = url.rstrip("/"), reset_field, shown
        self.reads_fields = (reset_field,)
        self._reward, self._reward_range = reward, reward_range
        self._timeout_s, self._start_timeout_s = timeout_s, start_timeout_s
        self._max_output_chars = max_output_chars
        self._offer: Offer = read_offer(self._url, name=name, description=description, timeout_s=start_timeout_s)
        self._validators = {spec.name: ArgumentsValidator(spec) for spec in self._offer.specs}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The environment's tools, as the server described them at the start."""
        return self._offer.specs

    def episode(self, reference: Reference | None) -> Episode:
        """Return a new episode for a prompt; nothing is opened yet.

        Raises:
            DataFileError: The arguments of `reset` are no object.
        """
        reset = {} if reference is None else reference.fields.get(self.reset_field) or {}
        if not isinstance(reset, dict):
            assert reference is not None
            raise DataFileError(
                f"reference {reference.reference_id!r}: {self.reset_field} is {reset!r:.80}; it must be an object with "
                "the arguments of the environment's reset"
            )
        return Episode(
            lambda: Connection(self._url, self._start_timeout_s),
            reset=reset,
            timeout_s=self._timeout_s,
            shown=self._shown,
            max_output_chars=self._max_output_chars,
        )

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        """Open a session; the environment is reset with the first call, or at the end when its state is asked for."""
        episode = self.episode(reference)

        def run(call: ToolCall) -> ToolResult:
            if refusal := refused(call, self._validators):
                return refusal
            if complaint := self._validators[call.name].complaint(call.arguments):
                return failed(call, f"{call.name}: {complaint}")
            return episode.step(call, self._offer.action(call.name, dict(call.arguments)))

        try:
            yield ToolSession(run=run, state=episode.state, score=lambda: self._score(episode.rewards))
        finally:
            episode.close()

    def _score(self, rewards: list[float]) -> float:
        if not rewards:
            return 0.0
        counted = {"last": rewards[-1], "max": max(rewards), "sum": sum(rewards)}[self._reward]
        low, high = self._reward_range
        return min(1.0, max(0.0, (counted - low) / (high - low)))
