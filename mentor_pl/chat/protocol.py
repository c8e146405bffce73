"""Messages to token ids and back, for one tokenizer. Rollout, evaluation, supervised training and `chat` share it.

Token in, token out: a prompt is rendered once, what is sampled is kept as sampled, and afterwards only *new* messages (tool results
and the next assistant header) are rendered and appended. Text that did not come from the template, a prompt's or a tool's, is
tokenised with special tokens split, so that a `<|im_start|>` in it stays plain text.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.format import ToolCallFormat
from mentor_pl.chat.hermes import HermesFormat
from mentor_pl.chat.llama3 import Llama3Format
from mentor_pl.chat.slots import fill_slots, slot, split_at_slots
from mentor_pl.errors import ChatFormatError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec

FORMATS: tuple[type[ToolCallFormat], ...] = (HermesFormat, Llama3Format)

_MARK = "\ue002"
"""Stands for what an assistant says."""

_NAME = re.compile(r"[\w.-]{1,64}")

_PROBE_TOOL = ToolSpec(
    name="probe_tool",
    description="Probe.",
    parameters={"type": "object", "properties": {"value": {"type": "number", "description": "A number."}}},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTurn:
    """An assistant turn, read from its tokens.

    Attributes:
        message: What it says and calls.
        forged: True where it wrote something that only the environment may write.
    """

    message: Message
    forged: bool


class ChatProtocol:
    """Renders and reads conversations with the student's own chat template.

    Args:
        tokenizer: With a chat template that renders tools, and a pad token.

    Raises:
        ChatFormatError: The template is missing, ignores tools or their results, or writes calls in no known format.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer: Any = tokenizer  # transformers types its own methods too loosely to check against
        template = tokenizer.chat_template
        if not isinstance(template, str):
            raise ChatFormatError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; set model.student's `chat_template` "
                "to a .jinja file or to a template that we ship ('hermes')"
            )
        if tokenizer.pad_token_id is None:
            raise ChatFormatError(
                f"the tokenizer of {tokenizer.name_or_path!r} has no pad token; set `pad_token` in its tokenizer_config.json"
            )
        known = [form for form in FORMATS if form.recognises(template)]
        if not known:
            names = ", ".join(form.name for form in FORMATS)
            raise ChatFormatError(
                f"the chat template of {tokenizer.name_or_path!r} writes tool calls in no format we read ({names}); set "
                "model.student's `chat_template` to 'hermes'"
            )
        self.format: ToolCallFormat = known[0]()
        self.stop_token_ids = self._find_stop_tokens()
        self._check()

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> tuple[int, ...]:
        """Render a conversation up to and including the header of the next assistant turn."""
        return tuple(self._encode(*self._render(messages, tools, add_generation_prompt=True)))

    def assistant_ids(self, message: Message) -> tuple[int, ...]:
        """Return the tokens a student would have sampled for this message, the stop token included (for supervised training)."""
        user = Message(role="user", content="x")
        header, _ = self._render([user], (), add_generation_prompt=True)
        whole, contents = self._render([user, message], (), add_generation_prompt=False)
        # Some templates (Qwen3) put more into the header of a past turn than into that of the next one.
        start = len(header) if whole.startswith(header) else _common_prefix(header, whole)
        text = fill_slots(whole[start:], contents)
        stop = self.tokenizer.convert_ids_to_tokens(self.stop_token_ids[0])
        text = text[: text.rindex(stop) + len(stop)] if stop in text else text + stop
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def tool_result_ids(
        self, calls: Sequence[ToolCall], results: Sequence[ToolResult], *, max_tokens: int | None = None
    ) -> tuple[int, ...]:
        """Render what follows a turn that called tools: behind its stop token, through its results, to the next assistant header.

        Args:
            calls: The calls of that turn.
            results: Their results, in the same order.
            max_tokens: Longest result in tokens; the rest is cut and a marker says so.
        """
        # A name is the student's writing too: one that is none must not reach the template.
        pieces = self._suffix(tuple(call.name if _NAME.fullmatch(call.name) else "unknown" for call in calls))
        ids: list[int] = []
        for piece in pieces:
            if isinstance(piece, str):
                ids += self.tokenizer.encode(piece, add_special_tokens=False)
            else:
                index, escaped = piece
                ids += self._encode_foreign(results[index].content, escaped=escaped, max_tokens=max_tokens)
        return tuple(ids)

    def user_message_ids(self, content: str) -> tuple[int, ...]:
        """Render what follows an assistant turn's stop token where the user speaks again, through the next assistant header.

        Past turns stay as sampled, also where the template would drop their reasoning.
        """
        turns = Message(role="user", content="x"), Message(role="assistant", content=_MARK)
        text, contents = self._render([*turns, Message(role="user", content=content)], (), add_generation_prompt=True)
        behind = text[text.index(_MARK) + 1 :]
        _, stop, rest = behind.partition(self.tokenizer.convert_ids_to_tokens(self.stop_token_ids[0]))
        return tuple(self._encode(rest if stop else behind, contents))

    def parse(self, token_ids: Sequence[int], *, first_index: int = 0) -> ParsedTurn:
        """Read a sampled turn.

        Args:
            token_ids: As sampled; a stop token at the end is dropped.
            first_index: Number of calls made earlier in the trajectory.
        """
        ids = list(token_ids)
        if ids and ids[-1] in self.stop_token_ids:
            ids.pop()
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        content, calls = self.format.parse(text, first_index=first_index)
        return ParsedTurn(
            message=Message(role="assistant", content=content, tool_calls=calls), forged=self.format.is_forged(text)
        )

    # Rendering -------------------------------------------------------------------------------------------------

    def _render(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, add_generation_prompt: bool
    ) -> tuple[str, list[str]]:
        """Return the rendered text with a slot for every foreign content, and the contents by slot number."""
        contents: list[str] = []
        rows: list[dict[str, Any]] = []
        for message in messages:
            row: dict[str, Any] = {"role": message.role, "content": message.content}
            if message.role != "assistant":
                row["content"] = slot(len(contents))
                contents.append(message.content)
            if message.tool_calls:
                row["tool_calls"] = [
                    {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
                    for call in message.tool_calls
                ]
            if message.name is not None:
                row["name"] = message.name
            rows.append(row)
        try:
            text = self.tokenizer.apply_chat_template(
                rows,
                tools=[tool.to_openai() for tool in tools] or None,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
            )
        except (TemplateError, TypeError, ValueError) as failure:
            roles = ", ".join(message.role for message in messages)
            raise ChatFormatError(
                f"the chat template of {self.tokenizer.name_or_path!r} cannot render a conversation of ({roles}): {failure}"
            ) from failure
        return str(text), contents

    def _encode(self, text: str, contents: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for piece in split_at_slots(text):
            if isinstance(piece, str):
                ids += self.tokenizer.encode(piece, add_special_tokens=False)
            else:
                ids += self._encode_foreign(contents[piece[0]], escaped=piece[1])
        return ids

    def _encode_foreign(self, content: str, *, escaped: bool, max_tokens: int | None = None) -> list[int]:
        if escaped:
            content = json.dumps(content, ensure_ascii=False)[1:-1]
        ids = self.tokenizer(content, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if max_tokens is not None and len(ids) > max_tokens:
            marker = f" [cut: {len(ids) - max_tokens} more tokens]"
            ids = ids[:max_tokens] + self.tokenizer.encode(marker, add_special_tokens=False)
        return list(ids)

    @functools.lru_cache(maxsize=256)  # noqa: B019 - a protocol lives as long as its run
    def _suffix(self, names: tuple[str, ...]) -> tuple[str | tuple[int, bool], ...]:
        """Pieces of the text behind a turn that called these tools."""
        calls = tuple(ToolCall(call_id=f"call_{i}", name=name) for i, name in enumerate(names))
        after = [Message(role="tool", content="x", tool_call_id=call.call_id, name=call.name) for call in calls]
        try:
            head, whole = self._render_around(calls, after)
        except ChatFormatError:
            if len(calls) == 1:
                raise
            # Llama 3 refuses several calls in a turn, but students make them. Only what comes behind the turn is wanted.
            head, whole = self._render_around(calls[:1], after)
        stop = self.tokenizer.convert_ids_to_tokens(self.stop_token_ids[0])
        cut = head.rfind(stop) + len(stop)
        if cut < len(stop):
            raise ChatFormatError(
                f"the chat template of {self.tokenizer.name_or_path!r} does not end a turn that calls tools with {stop!r}, as it ends "
                "others; set model.student's `chat_template` to 'hermes'"
            )
        if not whole.startswith(head[:cut]):
            raise ChatFormatError(
                f"the chat template of {self.tokenizer.name_or_path!r} rewrites a past assistant turn once a tool has answered; "
                "tokens could not be kept as sampled. Set model.student's `chat_template` to 'hermes'"
            )
        # Slot 0 is the dummy user's content and lies before the cut.
        return tuple(
            piece if isinstance(piece, str) else (piece[0] - 1, piece[1]) for piece in split_at_slots(whole[cut:])
        )

    def _render_around(self, calls: tuple[ToolCall, ...], after: list[Message]) -> tuple[str, str]:
        """Return a turn that makes these calls, rendered alone and with what comes after it."""
        before = [Message(role="user", content="x"), Message(role="assistant", tool_calls=calls)]
        head, _ = self._render(before, (), add_generation_prompt=False)
        whole, _ = self._render([*before, *after], (), add_generation_prompt=True)
        return head, whole

    # Checks at construction ------------------------------------------------------------------------------------

    def _find_stop_tokens(self) -> tuple[int, ...]:
        """The token that the template puts behind an assistant's content, then the tokenizer's own end of sequence."""
        text, _ = self._render(
            [Message(role="user", content="x"), Message(role="assistant", content=_MARK)],
            (),
            add_generation_prompt=False,
        )
        if _MARK not in text:
            raise ChatFormatError(
                f"the chat template of {self.tokenizer.name_or_path!r} does not show what an assistant says; set model.student's "
                "`chat_template` to 'hermes'"
            )
        tail = self.tokenizer.encode(text[text.rindex(_MARK) + 1 :], add_special_tokens=False)
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.get_added_vocab().values())
        stops = [token for token in tail if token in special][:1]
        if self.tokenizer.eos_token_id is not None and self.tokenizer.eos_token_id not in stops:
            stops.append(self.tokenizer.eos_token_id)
        if not stops:
            raise ChatFormatError(
                f"nothing ends an assistant turn in the chat template of {self.tokenizer.name_or_path!r}, and its tokenizer has "
                "no eos token; set `eos_token` in its tokenizer_config.json"
            )
        return tuple(stops)

    def _check(self) -> None:
        """Render a probe: tools must be offered, a call must read back as written, a result must be shown."""
        whose = f"the chat template of {self.tokenizer.name_or_path!r}"
        remedy = "set model.student's `chat_template` to 'hermes'"
        text, _ = self._render([Message(role="user", content="x")], (_PROBE_TOOL,), add_generation_prompt=True)
        if _PROBE_TOOL.name not in text:
            raise ChatFormatError(f"{whose} does not show the tools it is given; {remedy}")
        call = ToolCall(call_id="call_0", name=_PROBE_TOOL.name, arguments={"value": 12})
        read = self.parse(self.assistant_ids(Message(role="assistant", tool_calls=(call,)))).message.tool_calls
        if read != (call,):
            raise ChatFormatError(
                f"{whose} writes a tool call that does not read back in the {self.format.name} format; {remedy}"
            )
        if not any(not isinstance(piece, str) for piece in self._suffix((_PROBE_TOOL.name,))):
            raise ChatFormatError(f"{whose} does not show the results of tools; {remedy}")


def _common_prefix(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
