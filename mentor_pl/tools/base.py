"""The plugin point for tool backends (entry-point group `mentor_pl.tools`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSession:
    """A backend's side of one trajectory.

    Attributes:
        run: Runs one call. Called from any thread; never twice at once, unless the backend is
            `parallel`.
        state: Returns the present state of what the tools act upon, as JSON. None where there is
            none to tell.
        score: Returns how well the present state serves the task, in [0, 1]. None where the tools
            do not judge.
    """

    run: Callable[[ToolCall], ToolResult]
    state: Callable[[], Any] | None = None
    score: Callable[[], float] | None = None

    def __call__(self, call: ToolCall) -> ToolResult:
        """Run one call."""
        return self.run(call)


class ToolBackend(ABC):
    """Offers tools and runs their calls. Constructor arguments are the backend's YAML keys.

    What the caller gets wrong (bad arguments, code that raises or hangs) comes back as a
    `ToolResult` with its `status`; only failed infrastructure raises `ToolBackendError`. Sessions
    of many trajectories run at once. Check an implementation with
    `mentor_pl.testing.check_tool_backend`.
    """

    slow: bool = False
    """True where calls wait on something remote: rollouts then decode other trajectories meanwhile. False promises an
    answer within milliseconds as a rule, and keeps the order of events, and so a seeded run, exactly reproducible."""

    stateful: bool = False
    """True where an answer may depend on earlier calls of the same session. `Recorded` asks."""

    parallel: bool = False
    """True where the calls of one turn may run side by side. Where they share state, leave it False."""

    tells_state: bool = False
    """True where sessions have a `state` or a `score`. Such a session is opened for every trajectory, called or not."""

    final: bool = False
    """True where every call that succeeds ends the trajectory, and nothing is run: such calls count in the last turn, too."""

    per_prompt: bool = False
    """True where the tools differ from prompt to prompt: `specs_for` then says which there are."""

    reads_fields: tuple[str, ...] = ()
    """Names of the reference's further `fields` that decide what a session does. References of one wording that differ in
    them are different prompts."""

    @property
    @abstractmethod
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools offered to every prompt, with JSON Schema for their arguments. Constant over the backend's life."""

    def specs_for(self, reference: Reference) -> tuple[ToolSpec, ...]:
        """Return which of a prompt's tools this backend runs, as the model is to read them; `specs` by default."""
        return self.specs

    @abstractmethod
    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session for one trajectory; state that the tools keep between calls lives and dies with it.

        Args:
            reference: The prompt: its tools, its first state (`initial_state`) and its further
                `fields`. None for a session without a prompt, of a backend whose tools do not
                differ from prompt to prompt.
        """

    def close(self) -> None:  # noqa: B027 - optional to override
        """Free workers and connections. Called once; the backend is not used afterwards."""
