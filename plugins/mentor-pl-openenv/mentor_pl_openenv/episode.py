"""One trajectory's episode in an OpenEnv environment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from mentor_pl.errors import ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolStatus
from mentor_pl.tools.results import failed, truncated
from mentor_pl_openenv.connection import ActionRefusedError, Connection


class Episode:
    """A session at the server, opened and reset when it is first needed.

    Args:
        connect: Opens the session.
        reset: Arguments of the environment's `reset`.
        timeout_s: Seconds of one answer.
        shown: Field of an observation that is the answer to a call; the whole observation where
            None.
        max_output_chars: Longer answers are cut.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        reset: Mapping[str, Any],
        timeout_s: float,
        shown: str | None,
        max_output_chars: int,
    ) -> None:
        self.rewards: list[float] = []
        """Of all steps that gave one, in order."""
        self._connect, self._reset, self._timeout_s = connect, dict(reset), timeout_s
        self._shown, self._max_output_chars = shown, max_output_chars
        self._connection: Connection | None = None
        self._over = ""

    def open(self) -> dict[str, Any] | None:
        """Open the session where it is not; return the first observation then.

        Raises:
            ToolBackendError: The server cannot be reached, or does not reset.
        """
        if self._connection is not None:
            return None
        self._connection = self._connect()
        try:
            return self._connection.ask("reset", self._reset, self._timeout_s).get("observation")
        except (ActionRefusedError, TimeoutError) as failure:
            self.close()
            raise ToolBackendError(f"the environment cannot be reset with {self._reset}: {failure}") from failure
        except ToolBackendError:
            self.close()
            raise

    def step(self, call: ToolCall, action: dict[str, Any]) -> ToolResult:
        """Take an action."""
        if self._over:
            return failed(call, f"{call.name}: {self._over}")
        self.open()
        assert self._connection is not None
        start = time.perf_counter()
        try:
            answer = self._connection.ask("step", action, self._timeout_s)
        except ActionRefusedError as failure:
            text = truncated(f"{call.name}: {failure}", self._max_output_chars)
            return failed(call, text, duration_s=time.perf_counter() - start)
        except TimeoutError:
            self._over = "the episode was lost when a call took too long"
            text = f"{call.name} took longer than {self._timeout_s:g} s"
            return failed(call, text, status=ToolStatus.TIMEOUT, duration_s=time.perf_counter() - start)
        if isinstance(reward := answer.get("reward"), (int, float)):
            self.rewards.append(float(reward))
        if done := bool(answer.get("done")):
            self._over = "the episode is over"
        text, ok = _read(answer.get("observation"), self._shown)
        if not ok:
            return failed(call, truncated(f"{call.name}: {text}", self._max_output_chars))
        return ToolResult(
            call_id=call.call_id,
            content=truncated(text, self._max_output_chars),
            duration_s=time.perf_counter() - start,
            output_chars=len(text),
            final=done,
        )

    def state(self) -> Any:
        """Return the environment's state; without what names the episode or counts its steps.

        Raises:
            ToolBackendError: It cannot be told.
        """
        if self._over.startswith("the episode was lost"):
            return None
        self.open()
        assert self._connection is not None
        try:
            state = self._connection.ask("state", {}, self._timeout_s)
        except (ActionRefusedError, TimeoutError) as failure:
            raise ToolBackendError(f"the environment does not tell its state: {failure}") from failure
        return {key: value for key, value in state.items() if key not in ("episode_id", "step_count")}

    def close(self) -> None:
        """End the session."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read(observation: Any, shown: str | None) -> tuple[str, bool]:
    """Return what is shown of an observation, and whether the call succeeded."""
    if isinstance(observation, dict) and {"tool_name", "result"} <= observation.keys():  # of an MCP environment
        if error := observation.get("error"):
            return str(error.get("message", error) if isinstance(error, dict) else error), False
        observation = observation["result"]
        if isinstance(observation, dict) and "data" in observation and "content" in observation:
            failure, observation = bool(observation.get("is_error")), observation["data"]
            return written(observation), not failure
        return written(observation), True
    if shown is not None and isinstance(observation, dict):
        observation = observation.get(shown)
    return written(observation), True


def written(value: Any) -> str:
    """Return a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
