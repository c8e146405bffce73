"""The agent loop: assistant turns, tool calls, their budgets, and why an attempt ended.

One loop serves every speaker. `Episode` knows messages only; a teacher behind an endpoint uses it
directly. `student_episode.py` adds the student's tokens; rollouts, evaluation and chat use it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from mentor_pl.errors import PluginError, ToolBackendError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolStatus
from mentor_pl.plugins import keeping_contract
from mentor_pl.reference import Reference
from mentor_pl.rollout.user import User
from mentor_pl.tools.results import shown
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn, messages_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What comes back after an assistant message.

    Attributes:
        results: One for each call of the message, in the same order; empty where it calls nothing.
        follow_up: What the user says next; None where nobody speaks.
        lost: Whether whoever speaks for the user cannot be reached; the episode ends as
            `infrastructure`.
    """

    results: tuple[ToolResult, ...] = ()
    follow_up: str | None = None
    lost: bool = False


class Episode:
    """One attempt at one prompt under way, whoever speaks.

    Per turn: `take` an assistant message; where that waits for a response, `respond` (or look it
    up) and `resume`. The episode is over once `stop_reason` is set; `finish` then returns the
    trajectory.

    Args:
        reference: The prompt, the tools that it offers, and what the user says afterwards.
        sample_index: Position within its group.
        toolbox: Runs the calls.
        max_turns: Assistant turns, the answer included.
        max_tool_calls: Tool calls over all turns; a turn that would exceed it is not run.
        user: Speaks once the reference's own follow-ups are said; nobody where None.
        call_timeout_s: Seconds that any call may take; the tool box's own limit unless given.
    """

    def __init__(
        self,
        *,
        reference: Reference,
        sample_index: int,
        toolbox: ToolBox,
        max_turns: int,
        max_tool_calls: int,
        user: User | None = None,
        call_timeout_s: float | None = None,
    ) -> None:
        self.reference = reference
        self.sample_index = sample_index
        self.stop_reason: StopReason | None = None
        self.num_calls = 0
        """Calls written so far."""
        self._max_turns, self._max_tool_calls, self._user = max_turns, max_tool_calls, user
        self._turns: list[Turn] = []
        self._waiting: Turn | None = None
        self._unseen: list[ToolCall] = []
        self._num_follow_ups = 0
        self._submission: Mapping[str, Any] | None = None
        self._final_tools = toolbox.final_tools
        self._tells_state = toolbox.tells_state
        self._exit = ExitStack()
        self._tools = self._exit.enter_context(toolbox.session(reference, call_timeout_s=call_timeout_s))

    def messages(self) -> tuple[Message, ...]:
        """Return the conversation so far, the prompt included."""
        return self.reference.prompt + messages_of(self._turns)

    def take(
        self,
        message: Message,
        *,
        completion: Completion | None = None,
        prompt_ids: tuple[int, ...] = (),
        stop_reason: StopReason | None = None,
    ) -> bool:
        """Take an assistant message in.

        Args:
            message: What was said and called; the ids of its calls are unique in the episode.
            completion: Its tokens, where they are known.
            prompt_ids: The tokens put before it since the last turn.
            stop_reason: Why the episode ends with this message, whatever it calls: it was cut off,
                for example.

        Returns:
            True where the message waits for a response, which goes to `resume`; False where the
            episode has ended.
        """
        turn = Turn(prompt_ids=prompt_ids, completion=completion or Completion(), message=message)
        self.num_calls += len(message.tool_calls)
        self.stop_reason = stop_reason or self._stop_reason(message)
        if self.stop_reason is None:
            self._waiting = turn
            return True
        self._turns.append(turn)
        return False

    def _stop_reason(self, message: Message) -> StopReason | None:
        if not message.tool_calls and self._user is None and self._num_follow_ups == len(self.reference.follow_ups):
            return StopReason.ANSWERED
        if self.num_calls > self._max_tool_calls:
            return StopReason.MAX_TOOL_CALLS
        if len(self._turns) + 1 < self._max_turns or self._tools.may_end(message.tool_calls):
            return None
        return StopReason.MAX_TURNS

    def is_slow(self) -> bool:
        """Say whether the response may take long: a slow tool, or a user who has to be asked."""
        calls = self._last().message.tool_calls
        if not calls:
            return self._num_follow_ups == len(self.reference.follow_ups)
        return any(self._tools.is_slow(call) for call in calls)

    def respond(self) -> Response:
        """Run the last message's calls, or let the user speak. May be called from another thread.

        Raises:
            PluginError: A tool backend, or the user, broke its contract.
        """
        calls = self._last().message.tool_calls
        if calls:
            if self._unseen:  # known results (`collect`'s journal); the tools may keep state, so they see the calls
                self._tools.run(self._unseen)
                self._unseen = []
            return Response(results=self._tools.run(calls))
        if self._num_follow_ups < len(self.reference.follow_ups):
            return Response(follow_up=self.reference.follow_ups[self._num_follow_ups])
        assert self._user is not None  # or the episode would have ended
        try:
            return Response(follow_up=self._said_by(self._user))
        except ToolBackendError as failure:
            _log.warning("reference %r, sample %d: %s", self.reference.reference_id, self.sample_index, failure)
            return Response(lost=True)

    def _said_by(self, user: User) -> str | None:
        with keeping_contract(user):
            said: Any = user.reply(self.reference, (*self.messages(), self._last().message))
        if said is None:
            return None
        if not isinstance(said, str):
            raise PluginError(
                f"{type(user).__name__} said {said!r:.100}; a user says a text, or None to end the conversation"
            )
        return shown(said)

    def resume(self, response: Response, *, looked_up: bool = False) -> None:
        """Take the response to the last message in.

        Args:
            response: See `respond`.
            looked_up: True where it was not asked for now, so that the tools have not seen the
                calls.
        """
        waiting, self._waiting = self._last(), None
        turn = replace(waiting, tool_results=response.results, follow_up=response.follow_up)
        in_last_turn = len(self._turns) + 1 >= self._max_turns and bool(turn.message.tool_calls)
        if in_last_turn and not self._hands_in(turn):
            turn = replace(turn, tool_results=())  # declared only, and too late to be mended: nothing was run
        self._turns.append(turn)
        if looked_up:
            self._unseen += turn.message.tool_calls
        if response.lost:
            self.stop_reason = StopReason.INFRASTRUCTURE
            return
        for call, result in zip(turn.message.tool_calls, turn.tool_results, strict=bool(turn.tool_results)):
            if result.status is ToolStatus.INFRASTRUCTURE:
                self.stop_reason = StopReason.INFRASTRUCTURE
                return
            if result.final:
                self.stop_reason = StopReason.CALLED
                if call.name in self._final_tools:
                    self._submission = call.arguments
        if in_last_turn and self.stop_reason is None:
            self.stop_reason = StopReason.MAX_TURNS
        if not turn.message.tool_calls:
            self._num_follow_ups += self._num_follow_ups < len(self.reference.follow_ups)
            if response.follow_up is None:
                self.stop_reason = StopReason.ANSWERED

    def _hands_in(self, turn: Turn) -> bool:
        """Say whether a last turn's calls count: all succeeded, or one is a final tool's, so that others may have run."""
        final = any(call.name in self._final_tools for call in turn.message.tool_calls)
        return final or all(result.ok for result in turn.tool_results)

    def _last(self) -> Turn:
        if self._waiting is None:
            raise AssertionError(f"no message of {self.reference.reference_id!r} waits for a response")
        return self._waiting

    def finish(self) -> Trajectory:
        """Ask for the final state, close the tools' session, and return the trajectory. May be called from any thread."""
        if self.stop_reason is None:
            raise AssertionError(f"the episode of {self.reference.reference_id!r} is still under way")
        stop_reason, state, score = self.stop_reason, None, None
        try:
            if self._tells_state and stop_reason is not StopReason.INFRASTRUCTURE:
                if self._unseen:
                    self._tools.run(self._unseen)
                state, score = self._tools.state(), self._tools.score()
        except ToolBackendError:
            stop_reason = StopReason.INFRASTRUCTURE
        finally:
            self.close()
        return Trajectory(
            reference_id=self.reference.reference_id,
            sample_index=self.sample_index,
            turns=tuple(self._turns),
            stop_reason=stop_reason,
            submission=self._submission,
            final_state=state,
            environment_score=score,
            environment=self.reference.environment,
        )

    def close(self) -> None:
        """Close the tools' session, also of an episode that will not be finished. May be called again."""
        self._exit.close()
