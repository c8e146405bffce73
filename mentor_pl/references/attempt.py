"""One attempt of a teacher at one prompt, with real tools and a journal."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from mentor_pl.errors import ConfigError
from mentor_pl.files.conversation import message_from_row
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.references.budget import Account
from mentor_pl.references.journal import Journal, journal_key
from mentor_pl.references.teacher import ChatTeacher, Reply
from mentor_pl.tools.base import ToolSession
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """What one attempt of a teacher may use up.

    Attributes:
        max_turns: Assistant messages, the answer included.
        max_tool_calls: Tool calls over all turns; a turn that would exceed it is not run.
    """

    max_turns: int = 10
    max_tool_calls: int = 20

    def __post_init__(self) -> None:
        for name in ("max_turns", "max_tool_calls"):
            if getattr(self, name) < 1:
                raise ConfigError(f"limits.{name} is {getattr(self, name)}; it must be at least 1")


class Stopped(Exception):
    """The collection is being stopped."""


class Endpoint:
    """A teacher whose every reply is paid for once: looked up in the journal, else asked for within the budget and journalled."""

    def __init__(self, teacher: ChatTeacher, journal: Journal, account: Account) -> None:
        self.teacher = teacher
        self.journal = journal
        self.account = account
        self.stop = threading.Event()

    def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], prompt_id: str, sample: int
    ) -> tuple[str, Reply]:
        """Return the next message, and its key in the journal.

        Raises:
            Stopped: The collection is being stopped.
            BudgetSpentError: It would have to be paid for, and cannot.
            TeacherError: See `ChatTeacher.reply`.
        """
        sent = [message.to_openai() for message in messages], [tool.to_openai() for tool in tools]
        key = journal_key(dict(self.teacher.identity), prompt_id, sample, *sent)
        if (row := self.journal.get("reply", key)) is not None:
            return key, Reply(
                message=message_from_row(row["message"], str(self.journal.path), "message", strict=False),
                finish_reason=row["finish_reason"],
                prompt_tokens=row["prompt_tokens"],
                completion_tokens=row["completion_tokens"],
            )
        if self.stop.is_set():
            raise Stopped
        # No tokenizer makes more tokens than there are bytes.
        longest = len(json.dumps(sent).encode())
        limit = self.teacher.max_completion_tokens
        with self.account.request(prompt_tokens=longest, completion_tokens=limit) as spending:
            reply = self.teacher.reply(messages, tools, sample_index=sample, key=key)
            self.journal.put(
                "reply",
                key,
                {
                    "prompt_id": prompt_id,
                    "sample_index": sample,
                    "message": reply.message.to_openai(),
                    "finish_reason": reply.finish_reason,
                    "prompt_tokens": reply.prompt_tokens,
                    "completion_tokens": reply.completion_tokens,
                },
            )
            spending.requests = 1
            spending.prompt_tokens, spending.completion_tokens = reply.prompt_tokens, reply.completion_tokens
        return key, reply


class Attempt:
    """A conversation under way: the teacher's counterpart of a student's rollout."""

    def __init__(
        self, prompt: Reference, sample: int, *, endpoint: Endpoint, toolbox: ToolBox, limits: AttemptLimits
    ) -> None:
        self._prompt, self._sample = prompt, sample
        self._endpoint, self._toolbox, self._limits = endpoint, toolbox, limits
        self._turns: list[Turn] = []
        self._num_calls = 0
        self._session: ToolSession | None = None

    def run(self) -> Trajectory:
        """Go on until the teacher has answered or a limit is met.

        Raises:
            Stopped: The collection is being stopped.
            BudgetSpentError: The next reply cannot be paid for.
            TeacherError: See `ChatTeacher.reply`.
        """
        with ExitStack() as stack:
            stop_reason: StopReason | None = None
            while stop_reason is None:
                stop_reason = self._turn(stack)
        return Trajectory(
            reference_id=self._prompt.reference_id,
            sample_index=self._sample,
            turns=tuple(self._turns),
            stop_reason=stop_reason,
        )

    def _turn(self, stack: ExitStack) -> StopReason | None:
        said = tuple(message for turn in self._turns for message in _messages(turn))
        key, reply = self._endpoint.reply(
            self._prompt.prompt + said, self._prompt.tools, self._prompt.reference_id, self._sample
        )
        message = self._numbered(reply.message)
        stop_reason = self._stop_reason(message, reply.finish_reason)
        results = () if stop_reason else self._results(key, message.tool_calls, stack)
        self._turns.append(Turn(completion=Completion(), message=message, tool_results=results))
        if any(result.status is ToolStatus.INFRASTRUCTURE for result in results):
            return StopReason.INFRASTRUCTURE
        return stop_reason

    def _numbered(self, message: Message) -> Message:
        """Give calls ids of our own: unique in the attempt, the same in every run, and nine characters, as Mistral's servers want."""
        calls = tuple(
            ToolCall(
                call_id=f"call{self._num_calls + index:05d}",
                name=call.name,
                arguments=call.arguments,
                parse_error=call.parse_error,
            )
            for index, call in enumerate(message.tool_calls)
        )
        self._num_calls += len(calls)
        return Message(role="assistant", content=message.content, tool_calls=calls)

    def _stop_reason(self, message: Message, finish_reason: str) -> StopReason | None:
        if finish_reason == "length":
            return StopReason.MAX_COMPLETION_TOKENS
        if not message.tool_calls:
            return StopReason.ANSWERED
        if self._num_calls > self._limits.max_tool_calls:
            return StopReason.MAX_TOOL_CALLS
        return StopReason.MAX_TURNS if len(self._turns) + 1 >= self._limits.max_turns else None

    def _results(self, key: str, calls: Sequence[ToolCall], stack: ExitStack) -> tuple[ToolResult, ...]:
        row = self._endpoint.journal.get("results", key)
        if row is not None:
            return tuple(
                ToolResult(call_id=call.call_id, **{**item, "status": ToolStatus(item["status"])})
                for call, item in zip(calls, row["results"], strict=True)
            )
        if self._session is None:
            offered = [tool.name for tool in self._prompt.tools]
            self._session = stack.enter_context(self._toolbox.session(offered))
            # What journalled turns called is run again, for the state that the tools may keep; its results are known.
            for earlier in [call for turn in self._turns for call in turn.message.tool_calls]:
                self._session(earlier)
        results = tuple(self._session(call) for call in calls)
        if not any(result.status is ToolStatus.INFRASTRUCTURE for result in results):
            self._endpoint.journal.put("results", key, {"results": [_result_row(result) for result in results]})
        return results


def _messages(turn: Turn) -> list[Message]:
    return [
        turn.message,
        *(
            Message(role="tool", content=result.content, tool_call_id=call.call_id, name=call.name)
            for call, result in zip(turn.message.tool_calls, turn.tool_results, strict=True)
        ),
    ]


def _result_row(result: ToolResult) -> dict[str, object]:
    return {
        "content": result.content,
        "status": result.status.value,
        "duration_s": result.duration_s,
        "output_chars": result.output_chars,
    }
