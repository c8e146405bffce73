"""One trajectory in the making: the state that a rollout keeps for it, and nothing else."""

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
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn


def row_seed(seed: int, reference_id: str, sample_index: int) -> int:
    """Derive a row's own seed (63 bits), the same whichever rank or batch the row falls into."""
    digest = blake2b(f"{seed}/{reference_id}/{sample_index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Row:
    """A trajectory under way. `advance` and `resume` take what happened and say what comes next."""

    def __init__(
        self,
        *,
        index: int,
        reference: Reference,
        sample_index: int,
        seed: int,
        prompt_ids: tuple[int, ...],
        protocol: ChatProtocol,
        toolbox: ToolBox,
        limits: RolloutLimits,
        max_context: int,
    ) -> None:
        self.index = index
        self.stop_reason: StopReason | None = None
        self._reference = reference
        self._sample_index = sample_index
        self._seed = row_seed(seed, reference.reference_id, sample_index)
        self._protocol = protocol
        self._toolbox = toolbox
        self._limits = limits
        self._max_context = max_context
        self._turns: list[Turn] = []
        self._token_ids = list(prompt_ids)
        self._next_prompt_ids = prompt_ids
        self._num_sampled = 0
        self._num_calls = 0
        self._calling: tuple[Completion, Message] | None = None
        self._tools: ToolSession | None = None
        self._exit = ExitStack()

    def request(self) -> GenerationRequest:
        """Return the request for the next turn."""
        return GenerationRequest(
            row=self.index, token_ids=tuple(self._token_ids), max_new_tokens=self._budget(), seed=self._seed
        )

    def advance(self, completion: Completion) -> tuple[ToolCall, ...]:
        """Take a completion in.

        Returns:
            The calls to run now, then handed to `resume`; none where the trajectory has ended, with its `stop_reason` set.
        """
        parsed = self._protocol.parse(completion.token_ids, first_index=self._num_calls)
        calls = parsed.message.tool_calls
        self._token_ids += completion.token_ids
        self._num_sampled += len(completion.token_ids)
        self._num_calls += len(calls)
        if completion.finish_reason == "length":  # cut off: whatever it was about to call is not run
            self.stop_reason = self._exhausted()
        elif parsed.forged:
            self.stop_reason = StopReason.FORGED_ROLE
        elif not calls:
            self.stop_reason = StopReason.ANSWERED
        elif self._num_calls > self._limits.max_tool_calls:
            self.stop_reason = StopReason.MAX_TOOL_CALLS
        elif len(self._turns) + 1 >= self._limits.max_turns:
            self.stop_reason = StopReason.MAX_TURNS
        if self.stop_reason is None:
            self._calling = (completion, parsed.message)
            return calls
        self._add_turn(completion, parsed.message, ())
        return ()

    def run_tools(self, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        """Run the calls of a turn, in order. Called from a worker thread, one turn at a time."""
        if self._tools is None:
            offered = frozenset(tool.name for tool in self._reference.tools)
            self._tools = self._exit.enter_context(self._toolbox.session(offered))
        return tuple(self._tools(call) for call in calls)

    def resume(self, results: Sequence[ToolResult]) -> None:
        """Take the results of the last turn's calls in; afterwards either `stop_reason` is set or `request` is due."""
        if self._calling is None:
            raise AssertionError(f"row {self.index} has called no tool")
        (completion, message), self._calling = self._calling, None
        self._add_turn(completion, message, tuple(results))
        if any(result.status is ToolStatus.INFRASTRUCTURE for result in results):
            self.stop_reason = StopReason.INFRASTRUCTURE
            return
        self._next_prompt_ids = self._protocol.tool_result_ids(
            message.tool_calls, results, max_tokens=self._limits.max_tool_result_tokens
        )
        self._token_ids += self._next_prompt_ids
        if self._budget() < 1:
            self.stop_reason = self._exhausted()

    def finish(self) -> Trajectory:
        """Close the tools' session and return the trajectory."""
        self._exit.close()
        if self.stop_reason is None:
            raise AssertionError(f"row {self.index} is still under way")
        return Trajectory(
            reference_id=self._reference.reference_id,
            sample_index=self._sample_index,
            turns=tuple(self._turns),
            stop_reason=self.stop_reason,
        )

    def close(self) -> None:
        """Close the tools' session of a row that will not be finished."""
        self._exit.close()

    def _add_turn(self, completion: Completion, message: Message, results: tuple[ToolResult, ...]) -> None:
        turn = Turn(prompt_ids=self._next_prompt_ids, completion=completion, message=message, tool_results=results)
        self._turns.append(turn)

    def _budget(self) -> int:
        return min(self._limits.max_completion_tokens - self._num_sampled, self._max_context - len(self._token_ids))

    def _exhausted(self) -> StopReason:
        tokens_left = self._limits.max_completion_tokens - self._num_sampled
        return StopReason.MAX_COMPLETION_TOKENS if tokens_left < 1 else StopReason.MAX_CONTEXT
