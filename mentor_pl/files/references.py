"""Reference files: a prompt, its answer, the tools offered and the teacher's calls, one a line.

A row holds at least

- `prompt` (a text or a list of messages) or `messages` (the whole conversation in the OpenAI chat
  format; what follows its last user message is the teacher's solution),
- `answer` (a text or a number; may be missing where `messages` is given),
- `tools` (OpenAI items, bare function objects, or names),
- optionally `id` (else file name and line number serve), `tool_calls` (OpenAI items, `{"name",
  "arguments"}` or names; else those of `messages`), `teacher` and `domain`. A list in `answer` or
  `answers` holds several that count as right,
- optionally `follow_ups` (what the user says once the student has answered; in `messages` they are
  the last user messages), `initial_state` and `expected_state` (any JSON).

Every other field is kept as it stands, in `Reference.fields`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mentor_pl.errors import DataFileError
from mentor_pl.files.conversation import call_from_row, called, messages_from_rows, with_unique_ids
from mentor_pl.files.fields import (
    MISSING,
    is_absent,
    list_field,
    optional_text,
    refusal,
    refuse_lone_surrogates,
    text_field,
)
from mentor_pl.files.jsonl import Row, write_rows
from mentor_pl.files.tables import read_rows
from mentor_pl.files.tool_specs import tool_to_row, tools_from_rows
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import Reference

_KNOWN = frozenset(
    (
        *("id", "messages", "prompt", "answer", "answers", "tools", "tool_calls", "teacher", "domain"),
        *("follow_ups", "initial_state", "expected_state"),
    )
)


def iter_references(path: str | Path, *, max_bad_lines: int = 0) -> Iterator[Reference]:
    """Read references one by one, in constant memory.

    Args:
        path: A reference file.
        max_bad_lines: Lines that may be unusable; each is logged with its number and left out.

    Raises:
        DataFileError: More lines are bad, or the file cannot be read.
    """
    stem = Path(path).stem

    def parse(row: Row, where: str) -> Reference:
        return reference_from_row(row, where, default_id=f"{stem}-{where.rpartition(':')[2]}")

    return read_rows(path, parse, max_bad_lines=max_bad_lines)


def read_references(path: str | Path, *, max_bad_lines: int = 0) -> list[Reference]:
    """Read a whole reference file.

    Args:
        path: A reference file.
        max_bad_lines: Lines that may be unusable; each is logged with its number and left out.

    Raises:
        DataFileError: The file has no reference, an id twice, or too many bad lines.
    """
    references = list(iter_references(path, max_bad_lines=max_bad_lines))
    if not references:
        raise DataFileError(f"{path}: expected at least one reference, found none; is it the right file?")
    seen: set[str] = set()
    for position, reference in enumerate(references, start=1):
        if reference.reference_id in seen:
            raise DataFileError(
                f"{path}: expected each id once, found {reference.reference_id!r} again at reference {position}; "
                "give every reference its own id (references of one prompt share the prompt, not the id)"
            )
        seen.add(reference.reference_id)
    return references


def write_references(path: str | Path, references: Iterable[Reference]) -> int:
    """Write a reference file whole or not at all.

    Returns:
        The number of references written.

    Raises:
        OSError: It cannot be written; what was there before is unharmed.
    """
    return write_rows(path, (reference_to_row(reference) for reference in references))


def reference_to_row(reference: Reference) -> Row:
    """Return the row of a reference; one with a solution is a chat row with `messages` and `tools` that other programs read too."""
    row: Row = {"id": reference.reference_id}
    if reference.messages:
        row["messages"] = [message.to_openai() for message in reference.prompt + reference.messages]
    else:
        row["prompt"] = [message.to_openai() for message in reference.prompt]
    row["answer"] = [reference.answer, *reference.other_answers] if reference.other_answers else reference.answer
    row["tools"] = [tool_to_row(tool) for tool in reference.tools]
    were_run = any(message.role == "tool" for message in reference.messages)
    # Calls that nothing has run are the solution, and found without a walk through its messages.
    if reference.tool_calls != called(reference.messages) or (reference.tool_calls and not were_run):
        row["tool_calls"] = [call.to_openai() for call in reference.tool_calls]
    if reference.teacher is not None:
        row["teacher"] = reference.teacher
    if reference.domain is not None:
        row["domain"] = reference.domain
    if reference.follow_ups:
        row["follow_ups"] = list(reference.follow_ups)
    for name in ("initial_state", "expected_state"):
        if getattr(reference, name) is not None:
            row[name] = getattr(reference, name)
    return {**row, **{name: value for name, value in reference.fields.items() if name not in _KNOWN}}


def reference_from_row(row: Row, where: str, *, default_id: str | None = None) -> Reference:
    """Read a reference from its row.

    Args:
        row: See the head of this module.
        where: `path:line`, for errors.
        default_id: The id of a row that has none; without one such a row is refused.

    Raises:
        DataFileError: A field is missing or malformed.
    """
    refuse_lone_surrogates({key: value for key, value in row.items() if key != "tools"}, where)
    follow_ups = _follow_ups(row, where)
    prompt, messages = _split(row, where, len(follow_ups))
    answers = _answers(row, where)
    reference_id = default_id if is_absent(row.get("id")) and default_id is not None else None
    return Reference(
        reference_id=reference_id or text_field(row, "id", where, remedy="give every reference its own id"),
        prompt=prompt,
        answer=answers[0],
        tools=tools_from_rows(row.get("tools", MISSING), where),
        tool_calls=_calls(row, messages, where),
        messages=messages,
        teacher=optional_text(row, "teacher", where),
        domain=optional_text(row, "domain", where),
        other_answers=answers[1:],
        follow_ups=follow_ups,
        initial_state=row.get("initial_state"),
        expected_state=row.get("expected_state"),
        fields={name: value for name, value in row.items() if name not in _KNOWN and value is not None},
    )


def _answers(row: Row, where: str) -> tuple[str, ...]:
    """Return the answers that count as right, each once; ("",) where there is none."""
    items: list[tuple[str, Any]] = []
    for name in ("answer", "answers"):
        value = row.get(name)
        if name == "answers" and not is_absent(value) and not isinstance(value, (list, str, int, float)):
            raise refusal(where, name, expected="a list of answers", found=value, remedy="or write one in 'answer'")
        listed = value if isinstance(value, list) else [] if value is None else [value]
        items += [(f"{name}[{i}]" if isinstance(value, list) else name, item) for i, item in enumerate(listed)]
    remedy = 'write the right answer, or "" where there is none'
    texts = [text_field({"": item}, "", where, remedy=remedy, field=field) for field, item in items if item is not None]
    if not texts and is_absent(row.get("messages")):
        text_field(row, "answer", where, remedy=remedy)
    return tuple(dict.fromkeys(texts)) or ("",)


def _follow_ups(row: Row, where: str) -> tuple[str, ...]:
    if is_absent(row.get("follow_ups")):
        return ()
    remedy = "write what the user says next, or leave it out"
    items = list_field(row["follow_ups"], "follow_ups", where, expected="a list of texts", remedy=remedy)
    return tuple(
        text_field({"": item}, "", where, remedy=remedy, field=f"follow_ups[{index}]")
        for index, item in enumerate(items)
    )


def _prompt(prompt: Any, where: str) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message(role="user", content=prompt),)
    return messages_from_rows(prompt, where, "prompt")


def _split(row: Row, where: str, num_follow_ups: int) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return the prompt, ending in a user message, and what follows it; the last user messages may be follow-ups."""
    messages = () if is_absent(row.get("messages")) else messages_from_rows(row["messages"], where)
    prompt = None if is_absent(row.get("prompt")) else row["prompt"]
    if prompt is None and not messages:
        raise refusal(
            where,
            "prompt",
            expected="a text or a list of messages (or 'messages', the whole conversation)",
            found=row.get("prompt", row.get("messages", MISSING)),
            remedy="write the question that the student is given",
        )
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    own = () if prompt is None else _prompt(prompt, where)
    if num_follow_ups and prompt is not None:
        cut = len(own) if messages[: len(own)] == own else 0
    else:
        cut = users[-1 - num_follow_ups] + 1 if len(users) > num_follow_ups else 0
    given, solution = messages[:cut], messages[cut:]
    if prompt is not None:
        if given and given != own:
            raise refusal(
                where,
                "messages",
                expected="only what follows the prompt, or a conversation that starts with it",
                found=row["messages"],
                remedy="drop 'prompt', or make the two agree",
            )
        given = own
    field = "messages" if prompt is None else "prompt"
    if not given or given[-1].role != "user":
        raise refusal(
            where,
            field,
            expected="a prompt that ends in a user message",
            found=row[field],
            remedy="add the user's question",
        )
    for index, message in enumerate(solution, start=len(messages) - len(solution)):
        if message.role not in ("assistant", "tool", *(("user",) if num_follow_ups else ())):
            raise refusal(
                where,
                f"messages[{index}].role",
                expected="assistant or tool after the last user message",
                found=message.role,
                remedy="move instructions before the question",
            )
    return given, solution


def _calls(row: Row, messages: tuple[Message, ...], where: str) -> tuple[ToolCall, ...]:
    if is_absent(row.get("tool_calls")):
        return called(messages)
    items = list_field(
        row["tool_calls"],
        "tool_calls",
        where,
        expected="a list of the teacher's calls",
        remedy="leave it out where 'messages' has them",
    )
    return with_unique_ids([_call(item, where, index) for index, item in enumerate(items)], set())


def _call(item: Any, where: str, index: int) -> ToolCall:
    value = {"name": item} if isinstance(item, str) else item
    return call_from_row(value, where, f"tool_calls[{index}]", default_id=f"call_{index}", strict=True)
