"""What an endpoint said, read with the liberties that endpoints take, and the same sent back as it came."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mentor_pl.errors import DataFileError
from mentor_pl.files.conversation import content_and_thought, message_from_row
from mentor_pl.files.fields import is_absent, object_field
from mentor_pl.files.strict_json import MAX_DEPTH, deeper_than
from mentor_pl.messages import Message, ToolCall, well_formed

_FINISHED = ("", "stop", "end_turn", "stop_sequence", "eos", "eos_token", "completed", "tool_calls", "tool_call")
_FINISHED += ("tool_use", "function_call")
_TOO_LONG = ("length", "max_tokens", "max_output_tokens", "model_length")
_BROKEN = ("error", "abort", "aborted", "cancelled", "canceled", "network_error", "insufficient_system_resource")


_BYTES_PER_TOKEN = 3


class UnreadableReplyError(Exception):
    """An endpoint answered, but not with a chat completion."""


def kind_of_end(finish_reason: Any) -> str:
    """Sort the reasons that endpoints give for the end of a reply.

    Returns:
        "finished"; "length" where a limit cut it off; "broken" where the server failed in the midst
        of it; "withheld" for any other, such as a filter: what there is of such a reply is no
        answer.
    """
    reason = finish_reason.lower() if isinstance(finish_reason, str) else "" if finish_reason is None else "?"
    if reason in _FINISHED:
        return "finished"
    return "length" if reason in _TOO_LONG else "broken" if reason in _BROKEN else "withheld"


def message_from_reply(value: Any, where: str) -> Message:
    """Read an endpoint's message.

    Taken in without a word: no role or an empty one, the deprecated `function_call`, absent types
    and ids, one call outside a list, arguments as an object, parts that are no text. Half surrogate
    pairs, which can be neither written nor sent, become U+FFFD. A call that cannot be understood
    gets a `parse_error`.

    Args:
        value: `choices[0].message`, or what `as_it_came` made of it.
        where: For errors.

    Raises:
        DataFileError: It is no message at all.
    """
    row = _writable(object_field(value, "message", where, "an endpoint answers with an object here"))
    items = row.get("tool_calls")
    if is_absent(items) or items == []:
        call = row.get("function_call")
        items = [] if not isinstance(call, dict) or is_absent(call.get("name")) else [{"function": call}]
    items = items if isinstance(items, list) else [items]
    content = row.get("content")
    said, thought = _said(content, where)
    message = message_from_row(
        {**row, "role": "assistant", "content": said, "tool_calls": items, "function_call": None, "weight": None},
        where,
        "message",
        strict=False,
    )
    extra = {
        name: value
        for name, value in row.items()
        if name not in ("role", "content", "tool_calls", "function_call") and not is_absent(value) and value != []
    }
    if not isinstance(content, str):
        extra["content"] = content
    return replace(
        message,
        tool_calls=tuple(
            replace(call, extra=_call_extra(call, item)) for call, item in zip(message.tool_calls, items, strict=True)
        ),
        reasoning=message.reasoning or thought,
        extra=extra,
    )


def _said(content: Any, where: str) -> tuple[str, str]:
    """Read the text and the thoughts in a content, and pass over parts that are neither."""
    said, thought = "", ""
    for part in content if isinstance(content, list) else [content]:
        try:
            text, inner = content_and_thought([part], where, "content")
        except (DataFileError, AttributeError):
            continue
        said, thought = said + text, thought + inner
    return said, thought


def _call_extra(call: ToolCall, item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {}
    extra = {name: value for name, value in item.items() if name not in ("type", "function", "name", "arguments")}
    for ours in ("parse_error", "written_id"):
        extra.pop(ours, None)
    if not isinstance(extra.get("id"), str) or not extra["id"]:
        extra.pop("id", None)
    function = item["function"] if isinstance(item.get("function"), dict) else {}
    inner = {name: value for name, value in function.items() if name not in ("name", "arguments")}
    written = function.get("arguments")
    if isinstance(written, str) and call.parse_error is None and written != _written(call):
        inner["arguments"] = written
    return {**extra, "function": inner} if inner else extra


def _written(call: ToolCall) -> str:
    return call.to_openai()["function"]["arguments"]


def _writable(value: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(value, ensure_ascii=False)
    written = well_formed(text)
    return value if written == text else json.loads(written)


def as_it_came(message: Message) -> dict[str, Any]:
    """Return a message as its endpoint gave it; `message_from_reply` reads it back to an equal one."""
    row = message.to_openai()
    row.pop("reasoning_content", None)  # where it came in that field, `extra` has it
    row.pop("weight", None)
    for item, call in zip(row.get("tool_calls", ()), message.tool_calls, strict=False):
        item.update({name: value for name, value in call.extra.items() if name != "function"})
        item["function"].update(call.extra.get("function", {}))
    return {**row, **message.extra}


def to_be_sent(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return a conversation for an endpoint: its own turns as they came, its own ids in what tools answered."""
    ids: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for message in messages:
        row = as_it_came(message)
        row.pop("name", None)
        for call, item in zip(message.tool_calls, row.get("tool_calls", ()), strict=True):
            for ours in ("parse_error", "written_id"):
                item.pop(ours, None)
            ids[call.call_id] = item["id"]
        if message.tool_call_id is not None:
            row["tool_call_id"] = ids.get(message.tool_call_id, message.tool_call_id)
        rows.append(_writable(row))
    return rows


def with_own_ids(message: Message, first: int) -> Message:
    """Give calls ids of ours: unique in the attempt, and the same in every run.

    They are nine characters long, as Mistral's servers want. The endpoint goes on seeing its own,
    where it gave each call of the turn one.

    Args:
        message: A reply.
        first: Number of calls before it.
    """
    theirs = [call.extra.get("id") for call in message.tool_calls]
    usable = None not in theirs and len(set(theirs)) == len(theirs)
    calls = tuple(
        replace(call, call_id=f"call{number:05d}", extra=call.extra if usable else _without_id(call.extra))
        for number, call in enumerate(message.tool_calls, start=first)
    )
    return replace(message, tool_calls=calls)


def _without_id(extra: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if name != "id"}


def without_extra(message: Message) -> Message:
    """Return a message without what only its endpoint can use."""
    return replace(message, tool_calls=tuple(replace(call, extra={}) for call in message.tool_calls), extra={})


def loads_reply(body: bytes, encoding: str) -> Any:
    """Read a reply; a number that JSON does not know becomes null, since none of ours may hold it.

    Raises:
        UnreadableReplyError: It is no JSON, or no writer could hold it.
    """
    try:
        text = body.decode(encoding).removeprefix("\ufeff")
        value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, LookupError, RecursionError):
        raise UnreadableReplyError from None
    if deeper_than(value, MAX_DEPTH):  # nor could the journal hold it
        raise UnreadableReplyError
    return value


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def count_tokens(usage: Any, field: str, text: str) -> int:
    """Return the tokens that the endpoint states, or an estimate where it states none, so that budgets hold there too."""
    stated = usage.get(field) if isinstance(usage, dict) else None
    if isinstance(stated, (int, float)) and not isinstance(stated, bool) and stated >= 0:
        return int(stated)
    return len(text.encode(errors="replace")) // _BYTES_PER_TOKEN + 1
