"""The agent loop: assistant turns, tool calls, their budgets, and why an attempt ended.

One loop serves every speaker. `Episode` knows messages only; a teacher behind an endpoint uses it directly.
`StudentEpisode` adds the student's tokens; rollouts, evaluation and chat use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import blake2b

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import GenerationRequest
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.tools.base import ToolSession
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn, messages_of


def sample_seed(seed: int, reference_id: str, sample_index: int) -> int:
    """Derive the seed of one sample (63 bits); it does not depend on rank or batch."""
    digest = blake2b(f"{seed}/{reference_id}/{sample_index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Episode:
    """One attempt at one prompt under way, whoever speaks.

    Per turn: `take` an assistant message; where that gives calls, `run_tools` (or look the results up) and `resume`.
    The episode is over once `stop_reason` is set; `finish` then returns the trajectory.

    Args:
        reference: The prompt, and the tools that it offers.
        sample_index: Position within its group.
        toolbox: Runs the calls.
        max_turns: Assistant turns, the answer included.
        max_tool_calls: Tool calls over all turns; a turn that would exceed it is not run.
    """

    def __init__(
        self, *, reference: Reference, sample_index: int, toolbox: ToolBox, max_turns: int, max_tool_calls: int
    ) -> None:
        self.reference = reference
        self.sample_index = sample_index
        self.stop_reason: StopReason | None = None
        self.num_calls = 0
        """Calls written so far."""
        self._toolbox = toolbox
        self._max_turns, self._max_tool_calls = max_turns, max_tool_calls
        self._turns: list[Turn] = []
        self._calling: Turn | None = None
        self._tools: ToolSession | None = None
        self._exit = ExitStack()

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
    ) -> tuple[ToolCall, ...]:
        """Take an assistant message in.

        Args:
            message: What was said and called; the ids of its calls are unique in the episode.
            completion: Its tokens, where they are known.
            prompt_ids: The tokens put before it since the last turn.
            stop_reason: Why the episode ends with this message, whatever it calls: it was cut off, for example.

        Returns:
            The calls to run now, whose results go to `resume`; none where the episode has ended.
        """
        turn = Turn(prompt_ids=prompt_ids, completion=completion or Completion(), message=message)
        self.num_calls += len(message.tool_calls)
        self.stop_reason = stop_reason or self._stop_reason(message)
        if self.stop_reason is None:
            self._calling = turn
            return message.tool_calls
        self._turns.append(turn)
        return ()

    def _stop_reason(self, message: Message) -> StopReason | None:
        if not message.tool_calls:
            return StopReason.ANSWERED
        if self.num_calls > self._max_tool_calls:
            return StopReason.MAX_TOOL_CALLS
        return StopReason.MAX_TURNS if len(self._turns) + 1 >= self._max_turns else None

    def run_tools(self, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        """Run the calls of a turn, in order. May be called from another thread, one turn at a time."""
        if self._tools is None:
            offered = frozenset(tool.name for tool in self.reference.tools)
            self._tools = self._exit.enter_context(self._toolbox.session(offered))
            # Where earlier results were looked up (`collect`'s journal), their calls still have to reach
            # the tools, which may keep state.
            for call in [call for turn in self._turns for call in turn.message.tool_calls]:
                self._tools(call)
        return tuple(self._tools(call) for call in calls)

    def resume(self, results: Sequence[ToolResult]) -> None:
        """Take the results of the last turn's calls in."""
        if self._calling is None:
            raise AssertionError(f"no tool call of {self.reference.reference_id!r} waits for a result")
        turn, self._calling = self._calling, None
        self._turns.append(
            Turn(
                prompt_ids=turn.prompt_ids,
                completion=turn.completion,
                message=turn.message,
                tool_results=tuple(results),
            )
        )
        if any(result.status is ToolStatus.INFRASTRUCTURE for result in results):
            self.stop_reason = StopReason.INFRASTRUCTURE

    def finish(self) -> Trajectory:
        """Close the tools' session and return the trajectory."""
        self.close()
        if self.stop_reason is None:
            raise AssertionError(f"the episode of {self.reference.reference_id!r} is still under way")
        return Trajectory(
            reference_id=self.reference.reference_id,
            sample_index=self.sample_index,
            turns=tuple(self._turns),
            stop_reason=self.stop_reason,
        )

    def close(self) -> None:
        """Close the tools' session, also of an episode that will not be finished. May be called again."""
        self._exit.close()


class StudentEpisode:
    """An episode of the student: what it sampled is kept as sampled, and only new messages are rendered.

    Args:
        index: Names the row to the engine.
        episode: Messages, calls and results.
        seed: Of the run.
        prompt_ids: The rendered prompt.
        protocol: Renders and reads the student's conversations.
        limits: Budgets of the trajectory.
        max_context: Longest conversation in tokens that the student can take.
    """

    def __init__(
        self,
        *,
        index: int,
        episode: Episode,
        seed: int,
        prompt_ids: tuple[int, ...],
        protocol: ChatProtocol,
        limits: RolloutLimits,
        max_context: int,
    ) -> None:
        self.index = index
        self.episode = episode
        self._seed = sample_seed(seed, episode.reference.reference_id, episode.sample_index)
        self._protocol = protocol
        self._limits = limits
        self._max_context = max_context
        self._token_ids = list(prompt_ids)
        self._next_prompt_ids = prompt_ids
        self._num_sampled = 0
        self.message: Message | None = None
        """The last turn, parsed."""

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the episode ended; None while it goes on."""
        return self.episode.stop_reason

    def request(self) -> GenerationRequest:
        """Return the request for the next turn."""
        return GenerationRequest(
            row=self.index, token_ids=tuple(self._token_ids), max_new_tokens=self._budget(), seed=self._seed
        )

    def advance(self, completion: Completion) -> tuple[ToolCall, ...]:
        """Take a completion in.

        Returns:
            The calls to run now, whose results go to `resume`; none where the episode has ended.
        """
        parsed = self._protocol.parse(completion.token_ids, first_index=self.episode.num_calls)
        self.message = parsed.message
        self._token_ids += completion.token_ids
        self._num_sampled += len(completion.token_ids)
        stop_reason = None
        if completion.finish_reason == "length":  # cut off: whatever it was about to call is not run
            stop_reason = self._exhausted()
        elif parsed.forged:
            stop_reason = StopReason.FORGED_ROLE
        return self.episode.take(
            parsed.message, completion=completion, prompt_ids=self._next_prompt_ids, stop_reason=stop_reason
        )

    def resume(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Take the results of the last turn's calls in; afterwards `stop_reason` is set or `request` is due."""
        self.episode.resume(results)
        if self.episode.stop_reason is not None:
            return
        self._next_prompt_ids = self._protocol.tool_result_ids(
            calls, results, max_tokens=self._limits.max_tool_result_tokens
        )
        self._token_ids += self._next_prompt_ids
        if self._budget() < 1:
            self.episode.stop_reason = self._exhausted()

    def _budget(self) -> int:
        return min(self._limits.max_completion_tokens - self._num_sampled, self._max_context - len(self._token_ids))

    def _exhausted(self) -> StopReason:
        tokens_left = self._limits.max_completion_tokens - self._num_sampled
        return StopReason.MAX_COMPLETION_TOKENS if tokens_left < 1 else StopReason.MAX_CONTEXT
