"""One attempt of a teacher at one prompt, with real tools and a journal."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.references.budget import Account
from mentor_pl.references.journal import Journal, journal_key
from mentor_pl.references.replies import as_it_came, kind_of_end, message_from_reply, with_own_ids
from mentor_pl.references.teacher import ChatTeacher, Reply, Stopped
from mentor_pl.rollout.agent_loop import Episode, Response
from mentor_pl.rollout.user import User
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason, Trajectory


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


class WithheldError(Exception):
    """A reply was broken off for a cause of the endpoint's, such as a filter: what there is of it is no answer."""


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
                message=message_from_reply(row["message"], str(self.journal.path)),
                finish_reason=row.get("finish_reason") or "stop",
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
                    "message": as_it_came(reply.message),
                    "finish_reason": reply.finish_reason,
                    "prompt_tokens": reply.prompt_tokens,
                    "completion_tokens": reply.completion_tokens,
                },
            )
            spending.requests = 1
            spending.prompt_tokens, spending.completion_tokens = reply.prompt_tokens, reply.completion_tokens
        return key, reply


class Attempt:
    """One attempt of the teacher: the agent loop, with an endpoint that speaks and a journal that remembers."""

    def __init__(
        self,
        prompt: Reference,
        sample: int,
        *,
        endpoint: Endpoint,
        toolbox: ToolBox,
        limits: AttemptLimits,
        user: User | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._tools = toolbox.offered(prompt)
        self._episode = Episode(
            reference=prompt,
            sample_index=sample,
            toolbox=toolbox,
            max_turns=limits.max_turns,
            max_tool_calls=limits.max_tool_calls,
            user=user,
        )

    def run(self) -> Trajectory:
        """Go on until the teacher has answered or a limit is met.

        Raises:
            Stopped: The collection is being stopped.
            BudgetSpentError: The next reply cannot be paid for.
            WithheldError: A reply is incomplete for a cause of the endpoint's.
            TeacherError: See `ChatTeacher.reply`.
        """
        episode = self._episode
        prompt = episode.reference
        with closing(episode):
            while episode.stop_reason is None:
                key, reply = self._endpoint.reply(
                    episode.messages(), self._tools, prompt.reference_id, episode.sample_index
                )
                end = kind_of_end(reply.finish_reason)
                if end not in ("finished", "length"):
                    raise WithheldError(reply.finish_reason)
                cut_off = StopReason.MAX_COMPLETION_TOKENS if end == "length" else None
                message = with_own_ids(reply.message, episode.num_calls)
                if episode.take(message, stop_reason=cut_off):
                    self._resume(key, message.tool_calls)
            return episode.finish()

    def _resume(self, key: str, calls: Sequence[ToolCall]) -> None:
        row = self._endpoint.journal.get("results", key)
        if row is not None and len(row["results"]) == len(calls):
            results = tuple(
                ToolResult(call_id=call.call_id, **{**item, "status": ToolStatus(item["status"])})
                for call, item in zip(calls, row["results"], strict=True)
            )
            self._episode.resume(Response(results=results, follow_up=row.get("follow_up")), looked_up=True)
            return
        response = self._episode.respond()
        if not response.lost and not any(result.status is ToolStatus.INFRASTRUCTURE for result in response.results):
            entry = {"results": [_result_row(result) for result in response.results], "follow_up": response.follow_up}
            self._endpoint.journal.put("results", key, entry)
        self._episode.resume(response)


def _result_row(result: ToolResult) -> dict[str, object]:
    return {
        "content": result.content,
        "status": result.status.value,
        "duration_s": result.duration_s,
        "output_chars": result.output_chars,
        "final": result.final,
    }
