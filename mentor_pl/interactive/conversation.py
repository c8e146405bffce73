"""A conversation of several questions, by the very protocol by which the student was trained; knows nothing of a terminal."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.engines.base import EngineSession, GenerationRequest
from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall, ToolResult
from mentor_pl.reference import Reference
from mentor_pl.rewards.answers import final_answer
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import RolloutRunner
from mentor_pl.rollout.student_episode import Step
from mentor_pl.rollout.world import World
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Completion, Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnProgress:
    """The student is in the middle of a turn.

    Attributes:
        text: All of the turn so far, tool calls as they are written.
    """

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded:
    """The student has ended a turn.

    Attributes:
        message: The turn, parsed.
    """

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswered:
    """A tool has answered.

    Attributes:
        call: What was asked.
        result: What came back.
    """

    call: ToolCall
    result: ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEnded:
    """The answer to a question is complete, or its budget is used up.

    Attributes:
        trajectory: The whole answer.
    """

    trajectory: Trajectory


Event = TurnProgress | TurnEnded | ToolAnswered | AnswerEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The last question and its answer.

    Attributes:
        question: The whole conversation up to the question, and the tools; without answer and
            solution.
        trajectory: What the student did.
    """

    question: Reference
    trajectory: Trajectory

    def as_reference(self, reference_id: str) -> Reference:
        """Return the answer as a teacher's solution, its last box as the right answer.

        Raises:
            ConfigError: A student that was cut off, or that wrote a malformed call, is no teacher.
        """
        finished = self.trajectory.finished
        if not finished or any(call.parse_error for call in self.trajectory.tool_calls):
            why = "has a malformed call" if finished else f"was ended by {self.trajectory.stop_reason.value}"
            raise ConfigError(f"the last answer {why}, so it is no reference; save it as a trajectory")
        return replace(
            self.question,
            reference_id=reference_id,
            answer=final_answer(self.trajectory) or "",
            messages=self.trajectory.messages(),
            tool_calls=self.trajectory.tool_calls,
            teacher="chat",
        )


class Conversation:
    """Asks a student one question after the other. Tokens stay as they were sampled over the whole conversation.

    Args:
        protocol: Renders and reads the student's conversations.
        toolbox: Offers the tools and runs the calls.
        session: Of an engine that holds the student's weights; kept for the whole chat, so that a
            cache is too.
        limits: Of the answer to each question.
        max_context: Longest conversation in tokens that the student can take.
        seed: With the number of the question it decides every random number.
        system: What the student is told before the first question; nothing where empty.
        tokens_at_once: Tokens between two `TurnProgress` events. What is sampled does not depend on
            it.
    """

    def __init__(
        self,
        *,
        protocol: ChatProtocol,
        toolbox: ToolBox,
        session: EngineSession,
        limits: RolloutLimits,
        max_context: int,
        seed: int = 0,
        system: str = "",
        tokens_at_once: int = 8,
    ) -> None:
        if tokens_at_once < 1:
            raise ConfigError(f"tokens_at_once is {tokens_at_once}; it must be at least 1")
        self.toolbox = toolbox
        self._protocol, self._session = protocol, session
        self._runner = RolloutRunner(
            protocol=protocol, world=World(toolbox=toolbox, limits=limits), max_context=max_context
        )
        self._max_context, self._seed, self._tokens_at_once = max_context, seed, tokens_at_once
        self._opening = (Message(role="system", content=system),) if system else ()
        self._row = 0
        self._asked = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system message."""
        self._release()
        self._messages = self._opening
        self._token_ids: tuple[int, ...] = ()
        self.last: Exchange | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far."""
        return self._messages

    def ask(self, text: str) -> Generator[Event]:
        """Put a question; the events end with `AnswerEnded`. Closing the iterator before leaves the conversation as it was.

        Raises:
            ConfigError: The conversation has become longer than the student's context.
            EngineError: The engine failed.
        """
        prompt_ids = self._prompt_ids(text)
        if len(prompt_ids) >= self._max_context:
            raise ConfigError(
                f"with this question the conversation takes {len(prompt_ids)} tokens, the student's context holds "
                f"{self._max_context}; begin a new one"
            )
        question = Reference(
            reference_id=f"chat-{self._asked}",
            prompt=(*self._messages, Message(role="user", content=text)),
            answer="",
            tools=self.toolbox.specs,
        )
        student = self._runner.episode(question, prompt_ids, index=self._row, sample_index=0, seed=self._seed)
        self._asked += 1
        try:
            while student.stop_reason is None:
                completion = yield from self._complete(student.request(), student.turn_ids)
                step = student.advance(completion)
                if step is Step.SAMPLE:
                    continue
                assert student.message is not None
                yield TurnEnded(message=student.message)
                if step is Step.RESPOND:
                    response = student.episode.respond()
                    for call, result in zip(student.message.tool_calls, response.results, strict=True):
                        yield ToolAnswered(call=call, result=result)
                    student.resume(response)
            trajectory = student.episode.finish()
        except BaseException:  # Ctrl-C, or a reader that stops listening, among others
            student.episode.close()
            self._release()
            raise
        self._keep(question, trajectory)
        yield AnswerEnded(trajectory=trajectory)

    def _prompt_ids(self, text: str) -> tuple[int, ...]:
        if not self._token_ids:
            return self._protocol.prompt_ids((*self._messages, Message(role="user", content=text)), self.toolbox.specs)
        # An answer that was cut off has no stop token, which the next question stands behind.
        stops = self._protocol.stop_token_ids
        end = () if self._token_ids[-1] in stops else stops[:1]
        return (*self._token_ids, *end, *self._protocol.user_message_ids(text))

    def _complete(self, request: GenerationRequest, before: tuple[int, ...]) -> Generator[Event, None, Completion]:
        """Sample a turn piece by piece; each piece continues the row, so that an engine with a cache computes nothing twice.

        Args:
            request: For the turn, or its rest.
            before: What there is of the turn.
        """
        token_ids: tuple[int, ...] = ()
        logprobs: tuple[float, ...] = ()
        while True:
            room = request.max_new_tokens - len(token_ids)
            piece = self._sample(
                replace(
                    request,
                    token_ids=request.token_ids + token_ids,
                    max_new_tokens=min(self._tokens_at_once, room),
                )
            )
            token_ids, logprobs = token_ids + piece.token_ids, logprobs + piece.logprobs
            if piece.finish_reason == "stop" or len(token_ids) >= request.max_new_tokens:
                return replace(piece, token_ids=token_ids, logprobs=logprobs)
            shown = before + token_ids
            yield TurnProgress(text=self._protocol.tokenizer.decode(shown, clean_up_tokenization_spaces=False))

    def _sample(self, request: GenerationRequest) -> Completion:
        self._session.submit([request])
        [(_, completion)] = self._session.poll()
        return completion

    def _keep(self, question: Reference, trajectory: Trajectory) -> None:
        self._messages = (*question.prompt, *trajectory.messages())
        self._token_ids = tuple(
            token_id for turn in trajectory.turns for token_id in (*turn.prompt_ids, *turn.completion.token_ids)
        )
        self.last = Exchange(question=question, trajectory=trajectory)

    def _release(self) -> None:
        """Go on with a row that the engine does not know."""
        self._session.release(self._row)
        self._row += 1
