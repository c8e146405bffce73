"""Renders conversations by a chat template, and keeps foreign text apart from the template's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.call_ids import given_id, ids_of_calls
from mentor_pl.chat.slots import MARKS, fill_slots, slot
from mentor_pl.chat.tokens import Piece, PieceEncoder
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolSpec

_SCHEMA_WORDS = frozenset(
    (
        "type function name description parameters properties required items enum default anyOf oneOf allOf additionalProperties "
        "string number integer boolean array object null"
    ).split()
)
"""What templates look for in a tool's description."""
_FAILURES = (TemplateError, TypeError, ValueError, KeyError, AttributeError)
MARK = "\ue002"
"""Stands for what an assistant says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A rendered conversation.

    Attributes:
        text: With slots for foreign text that would be taken for control tokens.
        contents: What belongs into the slots.
    """

    text: str
    contents: tuple[str, ...] = ()

    def pieces(self, start: int = 0) -> list[Piece]:
        """Return the text from `start` on, its slots filled."""
        return fill_slots(self.text[start:], self.contents)


class ConversationTemplate:
    """A chat template, as one tokenizer renders it.

    Args:
        tokenizer: Gives the template its names of special tokens.
        encoder: Knows the added tokens.
        source: Jinja source; the tokenizer's own by default.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encoder: PieceEncoder,
        source: str | None = None,
    ) -> None:
        self.source: str = source or str(tokenizer.chat_template)
        self.whose = f"the chat template of {tokenizer.name_or_path!r}"
        self._tokenizer: Any = tokenizer
        self._encoder = encoder
        self._control_words = {token.strip("<>/|[]｜:_ ") for token in encoder.added} - _SCHEMA_WORDS

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool,
        slots: bool = False,
    ) -> Rendered:
        """Render a conversation.

        Text that spells control tokens is kept from the template: a slot stands for it. All else is
        the template's to lay out, as it does in any other program; where it then leaves something
        out, slots stand for every message.

        Args:
            messages: In order.
            tools: Offered.
            add_generation_prompt: End with the header of the next assistant turn.
            slots: Let slots stand for all that others than the assistant say, numbered in order
                from 0; those for other text are numbered behind them.

        Raises:
            ChatFormatError: The template cannot render it, or leaves out what one of the messages
                says.
        """
        rendered = self._render(messages, tools, add_generation_prompt, slots)
        if _left_out(messages, rendered) is not None:
            rendered = self._render(messages, tools, add_generation_prompt, True)
            left_out = _left_out(messages, rendered)
            if left_out is not None:
                raise ChatFormatError(
                    f"{self.whose} leaves out what a message of role {left_out.role!r} says: {left_out.content[:80]!r}"
                )
        return rendered

    def _guarded(self, text: str) -> bool:
        return bool(MARKS.search(text) or self._encoder.added_in(text))

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        add_generation_prompt: bool,
        slots: bool,
        *,
        as_written: bool = True,
    ) -> Rendered:
        guarded = [message.content for message in messages if message.content and message.role != "assistant"]
        contents: list[str] = guarded if slots else []
        next_slot = iter(range(len(contents)))

        def put(text: str, *, guard: bool = False) -> str:
            if not text or not (guard or self._guarded(text)):
                return text
            contents.append(text)
            return slot(len(contents) - 1)

        def put_deep(value: Any) -> Any:
            if isinstance(value, str):
                # A name may complete a tag: `<` + "think" + `>`.
                return put(value, guard=value in self._control_words)
            if isinstance(value, Mapping):
                return {put_deep(name): put_deep(item) for name, item in value.items()}
            if isinstance(value, list | tuple):
                return [put_deep(item) for item in value]
            return value

        ids = ids_of_calls(messages, as_written=as_written)
        asked: dict[str, str] = {}  # the last turn's calls, and their ids in the conversation
        rows: list[dict[str, Any]] = []
        for message, own_ids in zip(messages, ids, strict=True):
            reserved = slots and message.content and message.role != "assistant"
            row: dict[str, Any] = {
                "role": message.role,
                "content": slot(next(next_slot)) if reserved else put(message.content),
            }
            if message.tool_calls:
                calls = [(put_deep(call.name), put_deep(dict(call.arguments))) for call in message.tool_calls]
                row["tool_calls"] = [
                    {"id": call_id, "type": "function", "function": {"name": name, "arguments": given}}
                    for call_id, (name, given) in zip(own_ids, calls, strict=True)
                ]
                asked = dict(zip((call.call_id for call in message.tool_calls), own_ids, strict=True))
            if message.reasoning:
                thought = put(message.reasoning)
                row |= {"reasoning_content": thought, "reasoning": thought, "thinking": thought}
            if message.name is not None:
                row["name"] = put_deep(message.name)
            if message.role == "tool":
                number = _num_answered(rows)
                # Files without ids answer in order.
                in_order = [*asked.values()][number] if number < len(asked) else given_id(number)
                row["tool_call_id"] = asked.get(message.tool_call_id or "", in_order)
            rows.append(row)
        specs = [put_deep(tool.to_openai()) for tool in tools]
        try:
            text = self._apply(rows, specs or None, add_generation_prompt)
        except _FAILURES as failure:
            try:
                # Some templates go through the tools without asking whether there are any, or read what schemas may leave out.
                text = self._apply(rows, _completed(specs), add_generation_prompt)
            except _FAILURES:
                if as_written and ids != ids_of_calls(messages, as_written=False):
                    # Mistral's templates refuse ids that are not nine characters long.
                    return self._render(messages, tools, add_generation_prompt, slots, as_written=False)
                roles = ", ".join(message.role for message in messages)
                raise ChatFormatError(f"{self.whose} cannot render a conversation of ({roles}): {failure}") from failure
        return Rendered(text=text, contents=tuple(contents))

    def _apply(self, rows: list[dict[str, Any]], specs: list[Any] | None, add_generation_prompt: bool) -> str:
        text = self._tokenizer.apply_chat_template(
            rows, tools=specs, chat_template=self.source, add_generation_prompt=add_generation_prompt, tokenize=False
        )
        return str(text)


def _completed(schema: Any) -> Any:
    """Return a schema in which objects say that they may have further properties, which is what they mean by not saying it."""
    if isinstance(schema, list):
        return [_completed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    more = {} if schema.get("type") != "object" or "additionalProperties" in schema else {"additionalProperties": {}}
    return {key: _completed(value) for key, value in schema.items()} | more


def _num_answered(rows: Sequence[dict[str, Any]]) -> int:
    """Count the tool messages at the end."""
    return next((number for number, row in enumerate(reversed(rows)) if row["role"] != "tool"), len(rows))


def _left_out(messages: Sequence[Message], rendered: Rendered) -> Message | None:
    """Return the first message that is not shown, apart from blanks around it. What assistants said may be rewritten."""
    whole = "".join(piece.text for piece in rendered.pieces())
    for message in messages:
        said = message.content.strip()
        if message.role == "assistant" or not said or said in whole:
            continue
        if json.dumps(said, ensure_ascii=False)[1:-1] not in whole:
            return message
    return None
