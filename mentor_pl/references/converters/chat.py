"""Files in the OpenAI chat format, with the liberties that their makers take.

Against `files.references`, which takes such files as they are where they are well-formed, this
converter also takes `tools` written as a JSON string, the deprecated `functions`, `function_call`
and role `function`, a missing tool list (the tools called are then offered), and it makes a
reference of every user turn of a conversation that uses tools. Without `answer` the last message's
boxed text is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentor_pl.errors import DataFileError
from mentor_pl.files.conversation import content_and_thought
from mentor_pl.files.fields import MISSING, is_absent, list_field
from mentor_pl.files.jsonl import Row
from mentor_pl.files.references import reference_from_row
from mentor_pl.files.strict_json import strict_loads
from mentor_pl.reference import Reference
from mentor_pl.references.converters.outcome import Rejected, convert_rows, reason_of, row_id
from mentor_pl.rewards.answers import boxes, without_reasoning


def chat(path: Path) -> Iterator[Reference | Rejected]:
    """Convert a JSON Lines file with `messages`.

    Args:
        path: A file for fine-tuning with tools, for example.

    Yields:
        For each user turn a reference, or why there is none.
    """
    return convert_rows(path, lambda row, where: convert_chat(row, where, row_id(row, where, path)))


def convert_chat(row: Row, where: str, own_id: str) -> Iterator[Reference | Rejected]:
    """Convert one conversation.

    Args:
        row: With `messages`.
        where: Its place.
        own_id: Its id; with several user turns, `/0`, `/1`, ... stand behind it.

    Yields:
        For each user turn a reference, or why there is none.

    Raises:
        DataFileError: It has no list of messages.
    """
    messages = list_field(
        row.get("messages", MISSING),
        "messages",
        where,
        expected="a list of messages",
        remedy="this converter is for files in the OpenAI chat format",
    )
    messages = [_modern(message, index) for index, message in enumerate(messages)]
    # What the assistant says before the user has spoken, a greeting, answers no prompt.
    first = next((index for index, message in enumerate(messages) if message.get("role") == "user"), 0)
    ends = [
        index
        for index, message in enumerate(messages)
        if index > first and message.get("role") == "assistant" and _role(messages, index + 1) in (None, "user")
    ]
    if not ends:
        yield Rejected(where=where, reason="there is no assistant message")
    for turn, end in enumerate(ends):
        part = messages[: end + 1]
        try:
            given = None if turn < len(ends) - 1 else row.get("answer", row.get("answers"))
            new = {
                **{key: value for key, value in row.items() if key not in _READ_HERE},
                "id": f"{own_id}/{turn}" if len(ends) > 1 else own_id,
                "messages": part,
                "answer": _boxed(part[-1], where, f"messages[{end}].content") if is_absent(given) else given,
                "tools": _tools(row, part),
            }
            yield reference_from_row(new, where)
        except DataFileError as failure:
            yield Rejected(where=where, reason=reason_of(failure, where))


_READ_HERE = ("answers", "functions", "prompt", "tool_calls")


def _role(messages: list[dict[str, Any]], index: int) -> Any:
    return messages[index].get("role") if index < len(messages) else None


def _boxed(message: dict[str, Any], where: str, field: str) -> str:
    """Return what stands in the last box of a message, read as rewards read it."""
    text, _ = content_and_thought(message.get("content"), where, field)
    found = boxes(without_reasoning(text))
    return (found[-1] if found else None) or ""


def _modern(message: Any, index: int) -> dict[str, Any]:
    """Write a message with the deprecated function fields in today's form."""
    if not isinstance(message, dict):
        return {"role": message}  # refused by its reader, which names the place
    message = dict(message)
    call = message.pop("function_call", None)
    if isinstance(call, dict) and not is_absent(call.get("name")) and is_absent(message.get("tool_calls")):
        message["tool_calls"] = [{"id": f"call_{index}", "type": "function", "function": call}]
    if message.get("role") == "function":
        message["role"] = "tool"
    return message


def _tools(row: Row, messages: list[dict[str, Any]]) -> Any:
    """Return the tools offered; where the row names none, those that are called."""
    tools = row["functions"] if is_absent(row.get("tools")) and "functions" in row else row.get("tools")
    if isinstance(tools, str) and tools:
        try:
            return strict_loads(tools)
        except ValueError:
            return tools  # refused by its reader, which names the place
    if not is_absent(tools):
        return tools
    names: list[str] = []
    for message in messages:
        items = message.get("tool_calls")
        for call in items if isinstance(items, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            name = (function if isinstance(function, dict) else call if isinstance(call, dict) else {}).get("name")
            names += [name] if isinstance(name, str) else []
    return list(dict.fromkeys(names))
