"""Public data sets for function calling, in the forms in which they are published.

Tools belong to each row. Where a data set holds no results of tools, the teacher's solution is one
message with its calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mentor_pl.files.fields import is_absent, refusal
from mentor_pl.files.jsonl import Row
from mentor_pl.files.references import reference_from_row
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.references.converters.bfcl import REFUSAL
from mentor_pl.references.converters.chat import convert_chat
from mentor_pl.references.converters.foreign_tools import json_values, tool_rows
from mentor_pl.references.converters.outcome import Rejected, convert_rows, row_id
from mentor_pl.references.converters.written_calls import CannotReadError, call_items, literal, python_calls

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.S)
_RESPONSE = re.compile(r"<tool_response>(.*?)</tool_response>", re.S)
_GLAIVE_TURN = re.compile(r"(?:^|\n)\s*(USER|ASSISTANT|FUNCTION RESPONSE):")
_GLAIVE_CALL = re.compile(r"""\{\s*"name":\s*"([^"]+)",\s*"arguments":\s*(?:'(.*)'|(\{.*\}))\s*\}""", re.S)
_SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function"), "tool"),
    "system": "system",
}


def xlam(path: Path) -> Iterator[Reference | Rejected]:
    """Convert xLAM / APIGen (`query`, `tools`, `answers`), or APIGen-MT (`conversations`, `tools`, `system`)."""

    def convert(row: Row, where: str) -> Iterable[Reference | Rejected]:
        if "conversations" in row:
            return _conversation(row, where, path, teacher="apigen-mt")
        calls = _unwrapped(row.get("answers"), where, "answers")
        fields = {"prompt": row.get("query"), "answer": "", "tools": tool_rows(row.get("tools"), where)}
        identity = {"id": row_id(row, where, path), "teacher": "xlam"}
        reference = reference_from_row({**identity, **fields, "tool_calls": calls}, where)
        solution = Message(role="assistant", content="" if calls else REFUSAL, tool_calls=reference.tool_calls)
        return [replace(reference, messages=(solution,))]

    return convert_rows(path, _rejecting(convert))


def toolace(path: Path) -> Iterator[Reference | Rejected]:
    """Convert ToolACE (`system` with the tools, `conversations` with calls as Python writes them)."""
    return convert_rows(path, _rejecting(lambda row, where: _conversation(row, where, path, teacher="toolace")))


def hermes(path: Path) -> Iterator[Reference | Rejected]:
    """Convert Hermes function calling (`conversations` with `<tool_call>` and `<tool_response>`, `tools`)."""
    return convert_rows(path, _rejecting(lambda row, where: _conversation(row, where, path, teacher="hermes")))


def glaive(path: Path) -> Iterator[Reference | Rejected]:
    """Convert glaive function calling v2 (`system` with the tools, `chat` as one text)."""

    def convert(row: Row, where: str) -> Iterable[Reference | Rejected]:
        chat, system = row.get("chat"), row.get("system")
        if not isinstance(chat, str) or not isinstance(system, str):
            raise refusal(where, "chat", expected="a text, and one in 'system'", found=chat, remedy="see --from")
        pieces = _GLAIVE_TURN.split(chat)
        messages = [_glaive_message(*turn) for turn in zip(pieces[1::2], pieces[2::2], strict=True)]
        tools = tool_rows(json_values(system), where, "system")
        return _chat(row, where, path, [m for m in messages if m], tools, teacher="glaive")

    return convert_rows(path, _rejecting(convert))


def _rejecting(convert: Any) -> Any:
    def safe(row: Row, where: str) -> Iterator[Reference | Rejected]:
        try:
            yield from convert(row, where)
        except CannotReadError as failure:
            yield Rejected(where=where, reason=str(failure))

    return safe


def _unwrapped(value: Any, where: str, field: str) -> list[dict[str, Any]]:
    if is_absent(value):
        raise refusal(where, field, expected="the expected calls", found=value, remedy="[] where none are")
    return call_items(value)


def _chat(
    row: Row, where: str, path: Path, messages: list[Row], tools: list[Row], *, teacher: str
) -> Iterable[Reference | Rejected]:
    if not tools:
        return [Rejected(where=where, reason="no tools are offered")]
    labels = {key: row[key] for key in ("category", "subcategory", "task", "source") if isinstance(row.get(key), str)}
    new = {**labels, "messages": messages, "tools": tools, "teacher": teacher}
    return convert_chat(new, where, row_id(row, where, path))


def _glaive_message(speaker: str, text: str) -> Row | None:
    text = text.replace("<|endoftext|>", "").strip()
    if speaker == "USER":
        return {"role": "user", "content": text}
    if speaker == "FUNCTION RESPONSE":
        return {"role": "tool", "content": text}
    said, marker, call = text.partition("<functioncall>")
    if not marker:
        return {"role": "assistant", "content": text} if text else None
    match = _GLAIVE_CALL.search(call)
    calls = call_items({"name": match[1], "arguments": match[2] or match[3]}) if match else call_items(call)
    return {"role": "assistant", "content": said.strip(), "tool_calls": calls}


def _conversation(row: Row, where: str, path: Path, *, teacher: str) -> Iterable[Reference | Rejected]:
    """Convert a conversation in ShareGPT's form, whichever way its calls are written."""
    turns = row.get("conversations")
    turns = literal(turns) if isinstance(turns, str) else turns
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise refusal(where, "conversations", expected="a list of turns", found=turns, remedy="see --from")
    given_system = row.get("system")
    system = given_system if isinstance(given_system, str) else ""
    messages: list[Row] = []
    for turn in turns:
        speaker = turn.get("from", turn.get("role"))
        role, text = _SPEAKERS.get(str(speaker).lower()), turn.get("value", turn.get("content"))
        if role is None or not isinstance(text, str):
            raise refusal(where, "conversations", expected="speakers that are known, and texts", found=turn, remedy="")
        if role == "system":
            system = f"{system}\n{text}" if system else text
        elif role == "tool":
            messages += _results(text, messages)
        elif role == "assistant":
            _add_assistant(messages, _assistant(text, calls_only=speaker == "function_call"))
        else:
            messages.append({"role": role, "content": text})
    tools = row.get("tools")
    rows = tool_rows(system_tools(system) if is_absent(tools) else tools, where)
    # Text that describes the tools would stand in the prompt twice: the student's own template describes them.
    if is_absent(tools) or "<tools>" in system:
        system = ""
    given = [{"role": "system", "content": system}] if system else []
    return _chat(row, where, path, given + messages, rows, teacher=teacher)


def system_tools(text: str) -> list[Any]:
    """Return the tools that a system prompt describes in JSON."""
    marked = [match.strip() for match in re.findall(r"<tools>(.*?)</tools>", text, re.S)]
    inside = next((match for match in marked if match), None)  # the instructions speak of `<tools> </tools>` before
    found: list[Any] = []
    for value in json_values(text) if inside is None else json_values(inside) or _literals(inside):
        found += value if isinstance(value, list) else [value]
    return [tool for tool in found if isinstance(tool, dict) and ("name" in tool or "function" in tool)]


def _literals(text: str) -> list[Any]:
    """Read what Python printed in the place of JSON."""
    try:
        return [literal(text)]
    except CannotReadError:
        return []


def _assistant(text: str, *, calls_only: bool) -> Row:
    if calls_only:
        return {"role": "assistant", "content": "", "tool_calls": call_items(text)}
    if "<tool_call>" in text:
        calls = [item for body in _CALL.findall(text) for item in call_items(body)]
        if not calls:
            raise CannotReadError("a call does not end")
        return {"role": "assistant", "content": _CALL.sub("", text).strip(), "tool_calls": calls}
    if calls := python_calls(text):
        return {"role": "assistant", "content": "", "tool_calls": calls}
    return {"role": "assistant", "content": text}


def _add_assistant(messages: list[Row], message: Row) -> None:
    """Add a turn; calls that follow what was said right before belong to one turn."""
    last = messages[-1] if messages else {}
    if last.get("role") == "assistant" and not last.get("tool_calls") and message.get("tool_calls"):
        message = {**message, "content": f"{last['content']}\n{message['content']}".strip()}
        messages.pop()
    messages.append(message)


def _results(text: str, messages: list[Row]) -> list[Row]:
    """Return one tool message for each call of the turn before it, where its text says which is whose."""
    num_calls = len(messages[-1].get("tool_calls") or []) if messages else 0
    parts = [part.strip() for part in _RESPONSE.findall(text)] or [text]
    if len(parts) == 1 and num_calls > 1:
        listed = next((value for value in json_values(parts[0]) if isinstance(value, list)), None)
        if listed is not None and len(listed) == num_calls:
            parts = [json.dumps(item, ensure_ascii=False) for item in listed]
    if len(parts) != num_calls:
        raise CannotReadError("the tools' answers do not fit the calls")
    return [{"role": "tool", "content": part} for part in parts]
