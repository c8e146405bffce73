"""Calls as a tokenizer's own response template reads them.

Some tokenizers carry a `response_template`: a description of their model's turns, which
transformers' `parse_response` reads
(https://huggingface.co/docs/transformers/chat_response_parsing). It comes from who made the model,
and so goes before ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from mentor_pl.chat.formats.base import MAX_CALL_CHARS, RawCall, ToolCallFormat, read_call_value, written_id_of
from mentor_pl.messages import ToolCall, ToolSpec


class ResponseTemplateFormat(ToolCallFormat):
    """Reads calls by a tokenizer's response template, and what that refuses by another format.

    Args:
        tokenizer: With a `response_template`.
        otherwise: Reads turns that the response template cannot read, and says what is wrong with
            their calls.
    """

    name = "the tokenizer's response template"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, otherwise: ToolCallFormat | None = None) -> None:
        self._tokenizer: Any = tokenizer
        self._otherwise = otherwise
        self.forged = otherwise.forged if otherwise else ()

    def find(self, text: str) -> list[RawCall]:
        """Return the turn as one broken call: asked for only where the response template cannot read it."""
        return [RawCall(start=0, end=len(text), body="", error="the turn cannot be read by the response template")]

    def parse(
        self, text: str, *, first_index: int = 0, tools: Mapping[str, ToolSpec] | None = None
    ) -> tuple[str, tuple[ToolCall, ...]]:
        """See `ToolCallFormat.parse`."""
        other = super().parse if self._otherwise is None else self._otherwise.parse
        offered = [tool.to_openai() for tool in (tools or {}).values()]
        if len(text) > MAX_CALL_CHARS:
            return other(text, first_index=first_index, tools=tools)
        try:
            message = self._tokenizer.parse_response(text, prefix="", tools=offered)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return other(text, first_index=first_index, tools=tools)
        calls: list[ToolCall] = []
        for index, item in enumerate(message.get("tool_calls") or (), start=first_index):
            name, arguments, error = read_call_value(item)
            calls.append(
                ToolCall(
                    call_id=f"call_{index}",
                    name=name,
                    arguments=arguments,
                    parse_error=error,
                    written_id=written_id_of(item),
                )
            )
        content = message.get("content") or ""
        if not calls and not content and text.strip():  # nothing was recognised
            return other(text, first_index=first_index, tools=tools)
        return content.strip(), tuple(calls)

    def split_reasoning(self, text: str) -> tuple[str, str] | None:
        """See `ToolCallFormat.split_reasoning`."""
        return None if self._otherwise is None else self._otherwise.split_reasoning(text)
