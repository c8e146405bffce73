"""Messages, tools and tool calls from and to the JSON of the OpenAI chat format."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mentor_pl.errors import DataFileError
from mentor_pl.files.fields import MISSING, list_field, refusal, refuse_lone_surrogates
from mentor_pl.messages import ROLES, Message, ToolCall, ToolSpec

_CALL_FORM = '{"id", "type": "function", "function": {"name", "arguments"}} or {"name", "arguments"}'


def _object(value: Any, field: str, where: str, remedy: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise refusal(where, field, expected="an object", found=value, remedy=remedy)
    return value


def tool_from_row(value: Any, where: str, field: str) -> ToolSpec:
    """Read a tool: an OpenAI item, its bare function object, or a name alone.

    Raises:
        DataFileError: It is none of these.
    """
    remedy = 'write {"type": "function", "function": {"name", "description", "parameters"}}, or the name alone'
    if isinstance(value, str) and value:
        return ToolSpec(name=value)
    tool = _object(value, field, where, remedy)
    if "function" in tool:
        field = f"{field}.function"
        tool = _object(tool["function"], field, where, remedy)
    name = tool.get("name", MISSING)
    if not isinstance(name, str) or not name:
        raise refusal(where, f"{field}.name", expected="the tool's name", found=name, remedy=remedy)
    description = tool.get("description")
    if not isinstance(description, (str, type(None))):
        raise refusal(where, f"{field}.description", expected="a text", found=description, remedy=remedy)
    parameters = tool.get("parameters")
    if parameters is None:
        return ToolSpec(name=name, description=description or "")
    parameters = _object(parameters, f"{field}.parameters", where, "write the JSON Schema of the arguments")
    return ToolSpec(name=name, description=description or "", parameters=parameters)


def tool_to_row(tool: ToolSpec) -> Any:
    """Return the OpenAI item, or the name alone where nothing else is known."""
    return tool.name if tool == ToolSpec(name=tool.name) else tool.to_openai()


def tools_from_rows(value: Any, where: str, field: str = "tools") -> tuple[ToolSpec, ...]:
    """Read the tools offered. Equal lists give one and the same tuple: most rows of a file offer the same tools.

    Raises:
        DataFileError: One is malformed, or two have one name.
    """
    rows = list_field(
        value, field, where, expected="a list of tools", remedy="name the tools offered; [] where none are"
    )
    try:
        return _shared_tools(json.dumps(rows))
    except DataFileError:
        return _read_tools(rows, where, field)  # raises again, and names the place


@functools.lru_cache(maxsize=1024)
def _shared_tools(text: str) -> tuple[ToolSpec, ...]:
    return _read_tools(json.loads(text), "", "tools")


def _read_tools(rows: list[Any], where: str, field: str) -> tuple[ToolSpec, ...]:
    refuse_lone_surrogates({field: rows}, where)
    tools = tuple(tool_from_row(row, where, f"{field}[{index}]") for index, row in enumerate(rows))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise refusal(
                where, f"{field}[{index}]", expected="another name", found=tool.name, remedy="offer each tool once"
            )
        seen.add(tool.name)
    return tools


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_arguments(value: Any) -> tuple[dict[str, Any], str | None]:
    """Read arguments: a JSON string as OpenAI has it, or the object itself; missing or "" are no arguments.

    Returns:
        The arguments, and why they cannot be read (None where they can).
    """
    if value is None or value is MISSING or value == "":
        return {}, None
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=_reject_constant)
        except (ValueError, RecursionError) as failure:
            return {}, f"the arguments are not JSON: {failure}"
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
        strict: Refuse malformed arguments (a teacher's file); else keep them as `parse_error` (a student's).

    Raises:
        DataFileError: It is no tool call, or `strict` and its arguments cannot be read.
    """
    row = _object(value, field, where, f"write {_CALL_FORM}")
    kind = row.get("type", "function")
    if kind != "function":
        raise refusal(where, f"{field}.type", expected='"function"', found=kind, remedy="only function calls are known")
    call_id = row.get("id")
    function = row
    if "function" in row:
        field = f"{field}.function"
        function = _object(row["function"], field, where, f"write {_CALL_FORM}")
    name = function.get("name", MISSING)
    arguments, problem = parse_arguments(function.get("arguments", MISSING))
    if not isinstance(name, str) or not name:
        if strict:
            raise refusal(where, f"{field}.name", expected="the tool's name", found=name, remedy=f"write {_CALL_FORM}")
        name, problem = name if isinstance(name, str) else "", problem or "the call has no name"
    if problem and strict:
        raise refusal(
            where,
            f"{field}.arguments",
            expected="a JSON object, or a string that holds one",
            found=function.get("arguments"),
            remedy=problem,
        )
    stated = row.get("parse_error")
    return ToolCall(
        call_id=call_id if isinstance(call_id, str) and call_id else default_id,
        name=name,
        arguments={} if stated or problem else arguments,
        parse_error=stated if isinstance(stated, str) else problem,
    )


def _content(value: Any, where: str, field: str) -> str:
    if value is None or value is MISSING:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_part(part, where, f"{field}[{index}]") for index, part in enumerate(value))
    raise refusal(where, field, expected="a text or a list of text parts", found=value, remedy="write the text")


def _part(value: Any, where: str, field: str) -> str:
    if isinstance(value, dict) and value.get("type") == "text" and isinstance(value.get("text"), str):
        return value["text"]
    raise refusal(where, field, expected='{"type": "text", "text"}', found=value, remedy="only text can be used")


def message_from_row(value: Any, where: str, field: str, *, first_call: int = 0, strict: bool = True) -> Message:
    """Read a message.

    Args:
        value: An object of the OpenAI chat format.
        where: `path:line`.
        field: The way to it.
        first_call: Number of tool calls before it in the conversation, for calls without an id.
        strict: See `call_from_row`.

    Raises:
        DataFileError: It is malformed; or it has a deprecated `function_call` or role, or content that is not text.
    """
    row = _object(value, field, where, 'write {"role", "content"}')
    role = row.get("role", MISSING)
    if role not in ROLES:
        raise refusal(
            where, f"{field}.role", expected=f"one of {', '.join(ROLES)}", found=role, remedy="rename or remove it"
        )
    if row.get("function_call") is not None:
        raise refusal(
            where,
            f"{field}.function_call",
            expected="nothing (it is deprecated)",
            found=row["function_call"],
            remedy="write it as an item of tool_calls",
        )
    items = row.get("tool_calls")
    if items is None:
        items = []
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
    call_id, name = row.get("tool_call_id"), row.get("name")
    return Message(
        role=role,
        content=_content(row.get("content", MISSING), where, f"{field}.content"),
        tool_calls=calls,
        tool_call_id=call_id if role == "tool" and isinstance(call_id, str) else None,
        name=name if isinstance(name, str) else None,
    )


def messages_from_rows(value: Any, where: str, field: str = "messages", *, strict: bool = True) -> tuple[Message, ...]:
    """Read a conversation; a tool message without a call's id answers the first open call of the last assistant message.

    Raises:
        DataFileError: A message is malformed, or `strict` and a tool message answers no call.
    """
    rows = list_field(value, field, where, expected="a list of messages", remedy='write [{"role", "content"}, ...]')
    messages: list[Message] = []
    open_calls: list[ToolCall] = []
    count = 0
    for index, row in enumerate(rows):
        message = message_from_row(row, where, f"{field}[{index}]", first_call=count, strict=strict)
        if message.role == "tool":
            message = _answer(message, open_calls, where, f"{field}[{index}]", strict)
        elif message.role == "assistant":
            open_calls = list(message.tool_calls)
            count += len(open_calls)
        messages.append(message)
    return tuple(messages)


def _answer(message: Message, open_calls: list[ToolCall], where: str, field: str, strict: bool) -> Message:
    wanted = message.tool_call_id
    call = next((call for call in open_calls if wanted in (None, call.call_id)), None)
    if call is None:
        if not strict:
            return message
        raise refusal(
            where,
            f"{field}.tool_call_id",
            expected="the id of an unanswered call of the assistant message before it",
            found=MISSING if wanted is None else wanted,
            remedy=f"open calls: {', '.join(call.call_id for call in open_calls) or 'none'}",
        )
    open_calls.remove(call)
    return Message(role="tool", content=message.content, tool_call_id=call.call_id, name=message.name or call.name)


def called(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls of all messages, in order."""
    return tuple(call for message in messages for call in message.tool_calls)
