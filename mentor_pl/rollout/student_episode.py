"""The agent loop with the student in it: tokens in, tokens out."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from hashlib import blake2b

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import GenerationRequest
from mentor_pl.messages import Message
from mentor_pl.rollout.agent_loop import Episode, Response
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.thinking_budget import ThinkingBudget, Verdict
from mentor_pl.trajectory import Completion, StopReason


def sample_seed(seed: int, reference_id: str, sample_index: int) -> int:
    """Derive the seed of one sample (63 bits); it does not depend on rank or batch."""
    digest = blake2b(f"{seed}/{reference_id}/{sample_index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Step(Enum):
    """What is due after a completion."""

    SAMPLE = "sample"
    """Another request: the turn goes on."""

    RESPOND = "respond"
    """A response (`Episode.respond`), which goes to `resume`."""

    NOTHING = "nothing"
    """The episode has ended."""


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
        self.park_after_s = limits.park_after_s
        self._seed = sample_seed(seed, episode.reference.reference_id, episode.sample_index)
        self._protocol = protocol
        self._limits = limits
        self._max_context = max_context
        self._token_ids = list(prompt_ids)
        self._next_prompt_ids = prompt_ids
        self._num_sampled = 0
        self._thinking = ThinkingBudget(protocol, limits)
        self._turn: Completion | None = None  # what there is of the turn that is being sampled
        self._calls_in_prompt = sum(len(message.tool_calls) for message in episode.reference.prompt)
        self._after_results = bool(episode.reference.prompt) and episode.reference.prompt[-1].role == "tool"
        self.message: Message | None = None
        """The last turn, parsed."""

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the episode ended; None while it goes on."""
        return self.episode.stop_reason

    @property
    def turn_ids(self) -> tuple[int, ...]:
        """What there is of a turn that goes on."""
        return () if self._turn is None else self._turn.token_ids

    def request(self) -> GenerationRequest:
        """Return the request for the next turn."""
        budget, for_thought = self._budget(), self._thinking.left(self._turn)
        return GenerationRequest(
            row=self.index,
            token_ids=tuple(self._token_ids),
            max_new_tokens=budget if for_thought is None else min(budget, for_thought),
            seed=self._seed,
        )

    def advance(self, completion: Completion) -> Step:
        """Take a completion in; return what is due."""
        self._token_ids += completion.token_ids
        self._num_sampled += len(completion.token_ids)
        completion = completion if self._turn is None else self._turn.followed_by(completion)
        parsed = self._protocol.parse(
            completion.token_ids,
            first_index=self.episode.num_calls,
            tools=self.episode.reference.tools,
            after_results=self._after_results,
        )
        self.message = parsed.message
        verdict = self._thinking.judge(completion, parsed)
        if verdict is Verdict.GOES_ON:
            closing = self._thinking.closing(parsed)
            if self._budget(len(closing)) >= 1:
                self._turn = self._with_forced(completion, closing)
                return Step.SAMPLE
        self._turn = None
        stop_reason = None
        if verdict is Verdict.CUT:
            stop_reason = StopReason.MAX_THINKING_TOKENS
        elif completion.finish_reason == "length":  # cut off: whatever it was about to call is not run
            stop_reason = self._exhausted()
        elif parsed.forged:
            stop_reason = StopReason.FORGED_ROLE
        waits = self.episode.take(
            parsed.message, completion=completion, prompt_ids=self._next_prompt_ids, stop_reason=stop_reason
        )
        return Step.RESPOND if waits else Step.NOTHING

    def resume(self, response: Response) -> None:
        """Take the response to the last message in; afterwards `stop_reason` is set or `request` is due."""
        self.episode.resume(response)
        if self.episode.stop_reason is not None:
            return
        self._after_results = response.follow_up is None
        if response.follow_up is not None:
            self._next_prompt_ids = self._protocol.user_message_ids(response.follow_up)
        else:
            assert self.message is not None
            self._next_prompt_ids = self._protocol.tool_result_ids(
                self.message.tool_calls,
                response.results,
                max_tokens=self._limits.max_tool_result_tokens,
                first_index=self._calls_in_prompt + self.episode.num_calls - len(self.message.tool_calls),
            )
        self._token_ids += self._next_prompt_ids
        if self._budget() < 1:
            self.episode.stop_reason = self._exhausted()

    def _with_forced(self, turn: Completion, token_ids: tuple[int, ...]) -> Completion:
        if not token_ids:
            return turn
        self._token_ids += token_ids
        start = len(turn.token_ids)
        return replace(
            turn,
            token_ids=turn.token_ids + token_ids,
            logprobs=turn.logprobs + (0.0,) * len(token_ids),
            forced=(start, start + len(token_ids)),
        )

    def _budget(self, num_given: int = 0) -> int:
        """Tokens that may still be sampled, behind so many that are given."""
        context = self._max_context - len(self._token_ids) - num_given
        return min(self._limits.max_completion_tokens - self._num_sampled, context)

    def _exhausted(self) -> StopReason:
        tokens_left = self._limits.max_completion_tokens - self._num_sampled
        return StopReason.MAX_COMPLETION_TOKENS if tokens_left < 1 else StopReason.MAX_CONTEXT
