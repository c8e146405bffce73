"""What a student did: completions, turns, trajectories, and the group that shares a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from mentor_pl.messages import Message, ToolCall, ToolResult, ToolStatus
from mentor_pl.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Tokens that a policy sampled in one go.

    Attributes:
        token_ids: Exactly the sampled tokens, the stop token included. Never decoded and encoded
            again.
        logprobs: Log-probability of each token under the distribution it was sampled from
            (temperature, top-k, ... applied).
        finish_reason: "stop" where the last token is a stop token, "length" where the token budget
            ended it.
        policy_version: Number of weight updates behind the weights that sampled this.
        forced: Half-open range of tokens that were put in, not sampled: they close a thought whose
            budget was spent. Their log-probabilities are 0, and they are never trained on.
    """

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: Literal["stop", "length"] = "stop"
    policy_version: int = 0
    forced: tuple[int, int] = (0, 0)

    @property
    def num_sampled_tokens(self) -> int:
        """Number of tokens that were sampled."""
        return len(self.token_ids) - (self.forced[1] - self.forced[0])

    def followed_by(self, other: Completion) -> Completion:
        """Return this one with another behind it, of the same turn; only one of them may hold forced tokens."""
        shift = len(self.token_ids) if other.forced[1] else 0
        return replace(
            other,
            token_ids=self.token_ids + other.token_ids,
            logprobs=self.logprobs + other.logprobs,
            forced=(other.forced[0] + shift, other.forced[1] + shift) if shift else self.forced,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One assistant message and the results of the calls in it.

    Attributes:
        prompt_ids: The tokens put before this completion since the last one: the whole rendered
            prompt on the first turn, afterwards the tool results and the next assistant header.
            Never trained on. Empty for a trajectory read from a chat file.
        completion: What was sampled.
        message: The completion, parsed.
        tool_results: One for each of `message.tool_calls`, in the same order; empty where the calls
            were not run.
        follow_up: What the user said when this turn had answered; None where nobody spoke.
    """

    prompt_ids: tuple[int, ...] = ()
    completion: Completion
    message: Message
    tool_results: tuple[ToolResult, ...] = ()
    follow_up: str | None = None


class StopReason(StrEnum):
    """Why a trajectory ended. `ANSWERED` and `CALLED` mean that the student finished by itself.

    `CALLED`: with a call that ends a trajectory, of a tool that is declared but not run, or that
        takes the answer.
    """

    ANSWERED = "answered"
    CALLED = "called"
    MAX_TURNS = "max_turns"
    MAX_TOOL_CALLS = "max_tool_calls"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"
    MAX_THINKING_TOKENS = "max_thinking_tokens"
    MAX_CONTEXT = "max_context"
    FORGED_ROLE = "forged_role"
    INFRASTRUCTURE = "infrastructure"


_BUDGETS = frozenset(
    {
        StopReason.MAX_TURNS,
        StopReason.MAX_TOOL_CALLS,
        StopReason.MAX_COMPLETION_TOKENS,
        StopReason.MAX_THINKING_TOKENS,
        StopReason.MAX_CONTEXT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One attempt of the student at one prompt.

    Attributes:
        reference_id: The (first) reference of the prompt.
        sample_index: Position within its group.
        turns: At least one.
        stop_reason: Why it ended.
        submission: Arguments of the call that handed the answer in; None where there was no such
            call.
        final_state: What the environment was in at the end, as JSON; None where it tells none.
        environment_score: How well that serves the task by the environment's own judgement, in [0,
            1]; None where it does not judge.
        given_turns: Leading turns that were given to the student, not sampled by it.
        environment: Name of the training environment that its prompt belongs to; "" where there is
            only one, or none.
    """

    reference_id: str
    sample_index: int = 0
    turns: tuple[Turn, ...]
    stop_reason: StopReason
    submission: Mapping[str, Any] | None = None
    final_state: Any = None
    environment_score: float | None = None
    given_turns: int = 0
    environment: str = ""

    @property
    def finished(self) -> bool:
        """True where the student ended by itself: with an answer, or with a call that ends a trajectory."""
        return self.stop_reason in (StopReason.ANSWERED, StopReason.CALLED)

    @property
    def truncated(self) -> bool:
        """True where a budget ended it: of turns, calls, tokens, or the context."""
        return self.stop_reason in _BUDGETS

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Every call the student wrote, in order, run or not."""
        return tuple(call for turn in self.turns for call in turn.message.tool_calls)

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """The executor's ledger, in order."""
        return tuple(result for turn in self.turns for result in turn.tool_results)

    @property
    def final_text(self) -> str:
        """What the student said in its last turn: the only place an answer is looked for."""
        return self.turns[-1].message.content if self.turns else ""

    @property
    def num_sampled_tokens(self) -> int:
        """Tokens that the student sampled, over all turns."""
        return sum(turn.completion.num_sampled_tokens for turn in self.turns)

    @property
    def failed_infrastructure(self) -> bool:
        """True where something broke that is not the student's doing; such a trajectory is not trained on."""
        return self.stop_reason is StopReason.INFRASTRUCTURE or any(
            result.status is ToolStatus.INFRASTRUCTURE for result in self.tool_results
        )

    def messages(self) -> tuple[Message, ...]:
        """The conversation after the prompt: assistant and tool messages, and what the user said in between."""
        return messages_of(self.turns)


def messages_of(turns: Iterable[Turn]) -> tuple[Message, ...]:
    """Return the messages of turns: what the assistant said, and what its tools and the user answered."""
    out: list[Message] = []
    for turn in turns:
        out.append(turn.message)
        out += [
            Message(role="tool", content=result.content, tool_call_id=call.call_id, name=call.name)
            for call, result in zip(turn.message.tool_calls, turn.tool_results, strict=False)
        ]
        if turn.follow_up is not None:
            out.append(Message(role="user", content=turn.follow_up))
    return tuple(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryGroup:
    """All attempts at one prompt, with every reference of that prompt.

    Attributes:
        references: At least one; they share prompt, answer and tools.
        trajectories: G of them.
    """

    references: tuple[Reference, ...]
    trajectories: tuple[Trajectory, ...]
