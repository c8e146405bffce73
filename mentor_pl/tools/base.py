"""The plugin point for tool backends (entry-point group `mentor_pl.tools`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager

from mentor_pl.messages import ToolCall, ToolResult, ToolSpec

ToolSession = Callable[[ToolCall], ToolResult]
"""Runs the calls of one trajectory. Called from any thread, never twice at once for the same session."""


class ToolBackend(ABC):
    """Offers tools and runs their calls. Constructor arguments are the backend's YAML keys.

    What the caller gets wrong (bad arguments, code that raises or hangs) comes back as a `ToolResult` with its `status`; only failed
    infrastructure raises `ToolBackendError`. Sessions of many trajectories run at once.
    Check an implementation with `mentor_pl.testing.check_tool_backend`.
    """

    slow: bool = False
    """True where calls wait on something remote: rollouts then decode other trajectories meanwhile. False promises an answer within
    milliseconds as a rule, and keeps the order of events, and so a seeded run, exactly reproducible."""

    stateful: bool = False
    """True where an answer may depend on earlier calls of the same session. `Recorded` asks."""

    @property
    @abstractmethod
    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools offered, with JSON Schema for their arguments. Constant over the backend's life."""

    @abstractmethod
    def session(self) -> AbstractContextManager[ToolSession]:
        """Open a session for one trajectory; state that the tools keep between calls lives and dies with it."""

    def close(self) -> None:  # noqa: B027 - optional to override
        """Free workers and connections. Called once; the backend is not used afterwards."""
