"""Messages and tool calls from the JSON of the OpenAI chat format.

Null, empty and absent are one: Arrow and pandas give every row the keys of all rows, filled with
    null.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mentor_pl.errors import DataFileError
from mentor_pl.files.fields import MISSING, is_absent, list_field, object_field, refusal
from mentor_pl.files.strict_json import strict_loads
from mentor_pl.messages import ROLES, Message, ToolCall

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Where servers and files put what was thought before a message."""

_CALL_FORM = '{"id", "type": "function", "function": {"name", "arguments"}} or {"name", "arguments"}'
_TEXT_PARTS = ("text", "input_text", "output_text")


def parse_arguments(value: Any) -> tuple[dict[str, Any], str | None]:
    """Read arguments: a JSON string as OpenAI has it, or the object itself; absent ones are no arguments.

    Returns:
        The arguments, and why they cannot be read (None where they can).
    """
    if is_absent(value):
        return {}, None
    if isinstance(value, str):
        escaped = "\\u" in value
        try:
            value = strict_loads(value)
            if escaped:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return {}, "the arguments hold half of a surrogate pair"
        except ValueError as failure:
            return {}, f"the arguments are not JSON: {failure!s:.200}"
    if not isinstance(value, dict):
        return {}, f"the arguments are not a JSON object but {type(value).__name__}"
    return value, None


def call_from_row(value: Any, where: str, field: str, *, default_id: str, strict: bool) -> ToolCall:
    """Read a tool call.

    Args:
        value: An OpenAI item, or `{"name", "arguments"}`.
        where: `path:line`.
        field: The way to it.
        default_id: Its id where the row has none.
        strict: Refuse what is malformed (a teacher's file); else keep it as `parse_error` (a
            student's).

    Raises:
        DataFileError: `strict`, and it is no tool call, or its arguments cannot be read.
    """
    try:
        return _call(value, where, field, default_id)
    except DataFileError:
        if strict:
            raise
    row = value if isinstance(value, dict) else {}
    function = row["function"] if isinstance(row.get("function"), dict) else row
    name = _text_or(function.get("name"), "")
    _, problem = parse_arguments(function.get("arguments"))
    problem = problem or ("the call is no function call" if name else "the call has no name")
    return ToolCall(
        call_id=_text_or(row.get("id"), default_id),
        name=name,
        parse_error=_text_or(row.get("parse_error"), problem),
        written_id=_text_or(row.get("written_id"), "") or None,
    )


def _text_or(value: Any, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _call(value: Any, where: str, field: str, default_id: str) -> ToolCall:
    row = object_field(value, field, where, f"write {_CALL_FORM}")
    kind = row.get("type")
    if kind != "function" and not is_absent(kind):
        raise refusal(where, f"{field}.type", expected='"function"', found=kind, remedy="only function calls are known")
    function = row
    if not is_absent(row.get("function")):
        field = f"{field}.function"
        function = object_field(row["function"], field, where, f"write {_CALL_FORM}")
    name = function.get("name", MISSING)
    if not isinstance(name, str) or not name:
        raise refusal(where, f"{field}.name", expected="the tool's name", found=name, remedy=f"write {_CALL_FORM}")
    stated = row.get("parse_error")
    arguments, problem = parse_arguments(function.get("arguments"))
    if problem and not isinstance(stated, str):
        raise refusal(
            where,
            f"{field}.arguments",
            expected="a JSON object, or a string that holds one",
            found=function.get("arguments"),
            remedy=problem,
        )
    return ToolCall(
        call_id=_text_or(row.get("id"), default_id),
        name=name,
        arguments={} if stated else arguments,
        parse_error=stated if isinstance(stated, str) and stated else None,
        written_id=_text_or(row.get("written_id"), "") or None,
    )


def content_and_thought(value: Any, where: str, field: str) -> tuple[str, str]:
    """Read the content of a message: a text, or a list of parts.

    Returns:
        The text, and what parts hold of reasoning.

    Raises:
        DataFileError: A part is neither.
    """
    if is_absent(value):
        return "", ""
    if isinstance(value, str):
        return value, ""
    if not isinstance(value, list):
        raise refusal(where, field, expected="a text or a list of text parts", found=value, remedy="write the text")
    said, thought = "", ""
    for index, part in enumerate(value):
        if is_absent(part):
            continue
        if isinstance(part, str):
            said += part
        elif (kind := _kind(part)) in _TEXT_PARTS and isinstance(part.get("text"), str):
            said += part["text"]
        elif kind in ("thinking", "reasoning"):
            inner = next((part[key] for key in ("thinking", "reasoning", "text") if part.get(key)), None)
            thought += "".join(content_and_thought(inner, where, f"{field}[{index}]"))
        else:
            raise refusal(
                where,
                f"{field}[{index}]",
                expected='{"type": "text", "text"}',
                found=part,
                remedy="only text can be used",
            )
    return said, thought


def _kind(part: Any) -> Any:
    return part.get("type") if isinstance(part, dict) else None


def _is_function_call(value: Any) -> bool:
    """Tell whether the deprecated field holds a call; Arrow writes a missing one as an object of nulls."""
    if isinstance(value, dict):
        return any(not is_absent(item) for item in value.values())
    return not is_absent(value)


def message_from_row(value: Any, where: str, field: str, *, first_call: int = 0, strict: bool = True) -> Message:
    """Read a message.

    Args:
        value: An object of the OpenAI chat format.
        where: `path:line`.
        field: The way to it.
        first_call: Number of tool calls before it in the conversation, for calls without an id.
        strict: See `call_from_row`.

    Raises:
        DataFileError: It is malformed; or it has a deprecated `function_call` or role, or content
            that is not text.
    """
    row = object_field(value, field, where, 'write {"role", "content"}')
    role = row.get("role", MISSING)
    if role not in ROLES:
        raise refusal(
            where, f"{field}.role", expected=f"one of {', '.join(ROLES)}", found=role, remedy="rename or remove it"
        )
    if _is_function_call(row.get("function_call")):
        raise refusal(
            where,
            f"{field}.function_call",
            expected="nothing (it is deprecated)",
            found=row["function_call"],
            remedy="write it as an item of tool_calls",
        )
    items = [] if is_absent(row.get("tool_calls")) else row["tool_calls"]
    items = list_field(items, f"{field}.tool_calls", where, expected="a list of calls", remedy="leave it out for none")
    if items and role != "assistant":
        raise refusal(
            where, f"{field}.tool_calls", expected="none", found=items, remedy="only assistant messages call tools"
        )
    calls = tuple(
        call_from_row(
            item,
            where,
            f"{field}.tool_calls[{index}]",
            default_id=f"call_{first_call + index}",
            strict=strict,
        )
        for index, item in enumerate(items)
    )
    content, thought = content_and_thought(row.get("content"), where, f"{field}.content")
    if role != "assistant":
        return Message(
            role=role,
            content=content,
            tool_call_id=_text_or(row.get("tool_call_id"), "") or None if role == "tool" else None,
            name=_text_or(row.get("name"), "") or None,
        )
    reasoning = next((row[key] for key in REASONING_FIELDS if isinstance(row.get(key), str) and row[key]), thought)
    return Message(
        role=role,
        content=content,
        tool_calls=calls,
        name=_text_or(row.get("name"), "") or None,
        reasoning=reasoning,
        trained=_is_trained(row.get("weight"), where, f"{field}.weight"),
    )


def _is_trained(weight: Any, where: str, field: str) -> bool:
    """Read OpenAI's mark of turns that are context only."""
    if is_absent(weight) or weight == 1:
        return True
    if weight == 0:
        return False
    raise refusal(where, field, expected="0 or 1", found=weight, remedy="0 is context only, 1 is trained on")


def messages_from_rows(value: Any, where: str, field: str = "messages", *, strict: bool = True) -> tuple[Message, ...]:
    """Read a conversation.

    Tool messages answer the calls of the assistant message before them: by id within that turn, or
    in order where they have none. Ids that begin anew with every turn are made unique in the
    conversation.

    Raises:
        DataFileError: A message is malformed, or `strict` and a tool message answers no call.
    """
    rows = list_field(value, field, where, expected="a list of messages", remedy='write [{"role", "content"}, ...]')
    messages: list[Message] = []
    open_calls: list[tuple[str, ToolCall]] = []  # each with the id that its row states
    taken: set[str] = set()
    for index, row in enumerate(rows):
        message = message_from_row(row, where, f"{field}[{index}]", first_call=len(taken), strict=strict)
        if message.role == "tool":
            message = _answer(message, open_calls, where, f"{field}[{index}]", strict)
        elif message.role == "assistant":
            stated = [call.call_id for call in message.tool_calls]
            message = replace(message, tool_calls=with_unique_ids(message.tool_calls, taken))
            open_calls = list(zip(stated, message.tool_calls, strict=True))
        messages.append(message)
    return tuple(messages)


def with_unique_ids(calls: Sequence[ToolCall], taken: set[str]) -> tuple[ToolCall, ...]:
    """Give calls whose id is taken another one, and take all of theirs."""
    out: list[ToolCall] = []
    for call in calls:
        number = len(taken)
        call_id = call.call_id
        while call_id in taken:
            call_id, number = f"call_{number}", number + 1
        taken.add(call_id)
        out.append(call if call_id == call.call_id else replace(call, call_id=call_id))
    return tuple(out)


def _answer(message: Message, open_calls: list[tuple[str, ToolCall]], where: str, field: str, strict: bool) -> Message:
    wanted = message.tool_call_id
    fits = next((pair for pair in open_calls if wanted in (None, pair[0])), None)
    if fits is None and open_calls and not strict:
        fits = open_calls[0]
    if fits is None:
        if not strict:
            return message
        raise refusal(
            where,
            f"{field}.tool_call_id",
            expected="the id of an unanswered call of the assistant message before it",
            found=MISSING if wanted is None else wanted,
            remedy=f"open calls: {', '.join(stated for stated, _ in open_calls) or 'none'}"[:200],
        )
    open_calls.remove(fits)
    _, call = fits
    return Message(role="tool", content=message.content, tool_call_id=call.call_id, name=message.name or call.name)


def called(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls of all messages, in order."""
    return tuple(call for message in messages for call in message.tool_calls)
