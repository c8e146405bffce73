"""Messages to token ids and back, for one tokenizer. Rollout, evaluation, supervised training and `chat` share it.

Token in, token out: a prompt is rendered once, what is sampled is kept as sampled, and afterwards
only *new* messages (tool results and the next assistant header) are rendered and appended. Of the
template only what follows a turn is used then, so that it may show past turns as it likes. Text
that did not come from the template, a prompt's or a tool's, never becomes a control token.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.call_ids import CallIds, earlier_calls, given_id, with_id_slots
from mentor_pl.chat.choice import choose
from mentor_pl.chat.detection import PROBE_TOOL, Detected
from mentor_pl.chat.one_call import one_call_a_turn
from mentor_pl.chat.slots import Followed, fill_slots
from mentor_pl.chat.stops import model_stops
from mentor_pl.chat.thoughts import ThoughtTags, in_thought, split_thought
from mentor_pl.chat.tokens import PieceEncoder
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTurn:
    """An assistant turn, read from its tokens.

    Attributes:
        message: What it says and calls; its reasoning apart.
        forged: True where it wrote something that only the environment may write.
        thinking: True where its thought never ended.
        num_thinking_tokens: Tokens of its thought, the tags included.
    """

    message: Message
    forged: bool
    thinking: bool = False
    num_thinking_tokens: int = 0


class ChatProtocol:
    """Renders and reads conversations with the student's own chat template.

    Args:
        tokenizer: With a pad token. Where its chat template does not render tools, they are put
            into the template's own turns.
        stop_token_ids: More tokens that end a turn, beside the template's, the tokenizer's and
            those of the model's generation config.

    Raises:
        ChatFormatError: The template is missing, cannot be used, or the tokenizer has no pad token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_token_ids: Iterable[int] = ()) -> None:
        self.tokenizer: Any = tokenizer  # transformers types its own methods too loosely to check against
        if tokenizer.pad_token_id is None:
            raise ChatFormatError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no pad token; set `pad_token` in its tokenizer_config.json"
            )
        self._encoder = PieceEncoder(tokenizer)
        self._detected: Detected = choose(tokenizer, self._encoder)
        self.format = self._detected.form
        self._shape = self._detected.shape
        self._thought_after_results = self._shape.thought_behind(self._after_calls((PROBE_TOOL.name,)))
        self.stop_token_ids = self._stops((*model_stops(tokenizer), *stop_token_ids))
        """Tokens that end a turn: the template's, the tokenizer's and the model's."""

    @property
    def detected(self) -> Detected:
        """How the template is used."""
        return self._detected

    @property
    def added_tokens(self) -> Mapping[str, int]:
        """Ids of the tokens that only the template and the student write, by their text."""
        return self._encoder.added

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> tuple[int, ...]:
        """Render a conversation up to and including the header of the next assistant turn.

        Raises:
            ChatFormatError: The template cannot render it, or leaves a message out.
        """
        rendered = self._detected.template.render(self.turns(messages), tools, add_generation_prompt=True)
        return self._encoder.encode(rendered.pieces())

    def turns(self, messages: Sequence[Message]) -> list[Message]:
        """Return a conversation as the template can write it: one call a turn where it writes no more."""
        return list(messages) if self._detected.several_calls else one_call_a_turn(messages)

    def assistant_ids(self, message: Message, *, first_index: int = 0, after_results: bool = False) -> tuple[int, ...]:
        """Return the tokens a student would have sampled for this message, the stop token included (for supervised training).

        Args:
            message: Of an assistant.
            first_index: Number of calls made earlier in the conversation: some families count them.
            after_results: The turn follows tools' results: some templates open a thought there.
        """
        end = self._detected.call_end if message.tool_calls else self._shape.spoken_end
        before = self._earlier(first_index) if message.tool_calls else ()
        rendered = self._shape.turn(message, end=end, before=before, thought=self._thought(after_results))
        pieces = [*rendered.pieces(), *fill_slots(end, ())]
        return self._encoder.encode(pieces, before="text")

    def calls_as_written(self, calls: Sequence[ToolCall], token_ids: Sequence[int]) -> tuple[ToolCall, ...]:
        """Give calls the ids that stand in the turn they were made in, where its format has ids.

        Args:
            calls: Of one turn.
            token_ids: Of that turn.
        """
        if self._detected.call_ids is CallIds.NONE:
            return tuple(calls)
        ids = [call.written_id for call in self.parse(token_ids).message.tool_calls]
        ids = ids if len(ids) == len(calls) else [None] * len(calls)
        return tuple(replace(call, written_id=written_id) for call, written_id in zip(calls, ids, strict=True))

    def tool_result_ids(
        self,
        calls: Sequence[ToolCall],
        results: Sequence[ToolResult],
        *,
        max_tokens: int | None = None,
        first_index: int = 0,
    ) -> tuple[int, ...]:
        """Render what follows a turn that called tools: behind its stop token, through its results, to the next assistant header.

        Results belong to calls by their order. A call that has an id of its own is answered under
        it.

        Args:
            calls: The calls of that turn.
            results: Their results, in the same order.
            max_tokens: Longest result in tokens; the rest is cut and a marker says so.
            first_index: Number of calls made before that turn.
        """
        # A name is the student's writing too: one that is none must not reach the template.
        names = tuple(call.name if _NAME.fullmatch(call.name) else "unknown" for call in calls)
        contents = [self._cut(result.content, max_tokens) for result in results]
        if self._detected.call_ids is CallIds.NONE:
            pieces = self._after_calls(names)
        else:
            pieces, ids = self._after_calls_with_ids(names, first_index)
            contents += [call.written_id or own for call, own in zip(calls, ids, strict=True)]
        return self._encoder.encode(
            fill_slots(pieces, contents), before="end_of_turn", last_token=self._detected.call_end
        )

    def user_message_ids(self, content: str) -> tuple[int, ...]:
        """Render what follows an assistant turn's stop token where the user speaks again, through the next assistant header.

        Past turns stay as sampled, also where the template would drop their reasoning.
        """
        end = self._shape.spoken_end
        return self._encoder.encode(
            fill_slots(self._shape.after_words(end), [content]), before="end_of_turn", last_token=end
        )

    def parse(
        self,
        token_ids: Sequence[int],
        *,
        first_index: int = 0,
        tools: Sequence[ToolSpec] = (),
        after_results: bool = False,
    ) -> ParsedTurn:
        """Read a sampled turn.

        Args:
            token_ids: As sampled; a stop token at the end is dropped.
            first_index: Number of calls made earlier in the trajectory.
            tools: As offered: formats that write arguments without types look them up there.
            after_results: The turn follows tools' results.
        """
        tags = self._thought(after_results)
        ids = list(token_ids)
        if ids and ids[-1] in self.stop_token_ids:
            ids.pop()
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        apart = self.format.split_reasoning(text)
        reasoning, spoken = apart or split_thought(text, tags)
        content, calls = self.format.parse(
            self._shape.words(spoken), first_index=first_index, tools={tool.name: tool for tool in tools}
        )
        message = Message(role="assistant", content=content, tool_calls=calls, reasoning=reasoning)
        return ParsedTurn(
            message=message,
            forged=self.format.is_forged(text),
            thinking=in_thought(text, tags) if apart is None else bool(reasoning) and not spoken.strip(),
            num_thinking_tokens=self._num_thinking_tokens(ids, text, spoken),
        )

    def thought_end_ids(self) -> tuple[int, ...]:
        """Return the tokens that end a thought."""
        return self._encoder.encode(fill_slots(self._shape.thought.blank_close, ()), before="text")

    def opens_thought(self, token_ids: Sequence[int]) -> bool:
        """Tell whether a thought begins among these tokens of a turn."""
        return self._shape.thought.open in self.tokenizer.decode(list(token_ids), skip_special_tokens=False)

    # ---------------------------------------------------------------------------------------------------------------

    def _cut(self, content: str, max_tokens: int | None) -> str:
        if max_tokens is None or len(content.encode()) <= max_tokens:  # a token is a byte at least
            return content
        ids = self._encoder.encode_foreign(content)
        if len(ids) <= max_tokens:
            return content
        kept = self.tokenizer.decode(ids[:max_tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return f"{kept} [cut: {len(ids) - max_tokens} more tokens]"

    @functools.lru_cache(maxsize=256)  # noqa: B019 - a protocol lives as long as its run
    def _after_calls(self, names: tuple[str, ...], first_index: int = 0) -> tuple[Followed, ...]:
        """Pieces of the text behind a turn that called these tools."""
        calls = tuple(ToolCall(call_id=f"call_{i}", name=name) for i, name in enumerate(names))
        return tuple(self._shape.after_calls(calls, self._detected.call_end, self._earlier(first_index)))

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def _after_calls_with_ids(
        self, names: tuple[str, ...], first_index: int
    ) -> tuple[tuple[Followed, ...], tuple[str, ...]]:
        """Pieces of the text behind a turn that called these tools, ids as slots behind those of results; and each call's id."""
        given = [given_id(first_index + i) for i in range(len(names))]
        calls = tuple(ToolCall(call_id=f"call_{i}", name=name) for i, name in enumerate(names))
        try:
            turn = self.assistant_ids(Message(role="assistant", tool_calls=calls), first_index=first_index)
            written = [call.written_id for call in self.calls_as_written(calls, turn)]
        except ChatFormatError:  # one call a turn
            written = [None] * len(calls)
        ids = tuple(own or other for own, other in zip(written, given, strict=True))
        owners = {call_id: i for i, call_id in enumerate(given)} | {call_id: i for i, call_id in enumerate(ids)}
        pieces, others = (self._after_calls(names, number) for number in (first_index, first_index + 1))
        return tuple(with_id_slots(pieces, others, owners, first_slot=len(names))), ids

    def _thought(self, after_results: bool) -> ThoughtTags:
        return self._thought_after_results if after_results else self._shape.thought

    def _earlier(self, number: int) -> list[Message]:
        """Messages with so many calls, where that changes what the template writes."""
        return [] if self._detected.call_ids is CallIds.NONE else earlier_calls(number)

    def _stops(self, more: Iterable[int]) -> tuple[int, ...]:
        ends = self._shape.spoken_end, self._detected.call_end
        stops = [self.tokenizer.convert_tokens_to_ids(end) for end in ends]
        stops += [self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []
        within = {
            self._encoder.added[token]
            for turn in self._detected.student_turns
            for token in self._encoder.added_in(turn)
        }
        return tuple(dict.fromkeys([*stops, *(int(stop) for stop in more if int(stop) not in within)]))

    def _num_thinking_tokens(self, ids: Sequence[int], text: str, spoken: str) -> int:
        if len(spoken) == len(text) or not ids:
            return 0
        close = self._encoder.added.get(self._shape.thought.close)
        if close is not None and close in ids:
            return len(ids) - list(reversed(ids)).index(close)
        return len(ids) - len(self._encoder.encode_foreign(spoken)) if spoken else len(ids)
