"""Files in the OpenAI chat format, with the liberties that their makers take.

Against `files.references`, which takes such files as they are where they are well-formed, this converter also takes `tools` written as a
JSON string, the deprecated `functions`, `function_call` and role `function`, a missing tool list (the tools called are then offered), and
it makes a reference of every user turn of a conversation that uses tools. Without `answer` the last message's boxed text is the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentor_pl.errors import DataFileError
from mentor_pl.files.fields import MISSING, list_field
from mentor_pl.files.jsonl import Row, read_rows
from mentor_pl.files.references import reference_from_row
from mentor_pl.reference import Reference
from mentor_pl.references.converters.outcome import Rejected

_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


def chat(path: Path) -> Iterator[Reference | Rejected]:
    """Convert a JSON Lines file with `messages`.

    Args:
        path: A file for fine-tuning with tools, for example.

    Yields:
        For each user turn a reference, or why there is none.
    """
    for references in read_rows(path, lambda row, where: list(_convert(row, where, path.stem))):
        yield from references


def _convert(row: Row, where: str, stem: str) -> Iterator[Reference | Rejected]:
    row_id = row.get("id") or f"{stem}-{where.rpartition(':')[2]}"
    messages = list_field(
        row.get("messages", MISSING),
        "messages",
        where,
        expected="a list of messages",
        remedy="this converter is for files in the OpenAI chat format",
    )
    messages = [_modern(message, index) for index, message in enumerate(messages)]
    ends = [
        index
        for index, message in enumerate(messages)
        if message.get("role") == "assistant" and _role(messages, index + 1) in (None, "user")
    ]
    if not ends:
        yield Rejected(where=where, reason="there is no assistant message")
    for turn, end in enumerate(ends):
        part = messages[: end + 1]
        answer = row.get("answer") if turn == len(ends) - 1 else None
        new = {
            **{key: row[key] for key in ("teacher", "domain") if key in row},
            "id": f"{row_id}/{turn}" if len(ends) > 1 else row_id,
            "messages": part,
            "answer": _boxed(part[-1]) if answer is None else answer,
            "tools": _tools(row, part),
        }
        try:
            yield reference_from_row(new, where)
        except DataFileError as failure:
            yield Rejected(where=where, reason=str(failure).removeprefix(f"{where}: ").partition(", found")[0])


def _role(messages: list[dict[str, Any]], index: int) -> Any:
    return messages[index].get("role") if index < len(messages) else None


def _boxed(message: dict[str, Any]) -> str:
    content = message.get("content")
    found = _BOXED.findall(content) if isinstance(content, str) else []
    return found[-1].strip() if found else ""


def _modern(message: Any, index: int) -> dict[str, Any]:
    """Write a message with the deprecated function fields in today's form."""
    if not isinstance(message, dict):
        return {"role": message}  # refused by its reader, which names the place
    message = dict(message)
    call = message.pop("function_call", None)
    if call is not None and message.get("tool_calls") is None:
        message["tool_calls"] = [{"id": f"call_{index}", "type": "function", "function": call}]
    if message.get("role") == "function":
        message["role"] = "tool"
    return message


def _tools(row: Row, messages: list[dict[str, Any]]) -> Any:
    tools = row.get("tools", row.get("functions"))
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except json.JSONDecodeError:
            return tools
    if tools is not None:
        return tools
    called = [call for message in messages for call in message.get("tool_calls") or []]
    names = [call.get("function", call).get("name") for call in called if isinstance(call, dict)]
    return list(dict.fromkeys(names))
