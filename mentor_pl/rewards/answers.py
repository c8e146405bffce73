r"""Where a trajectory's answer stands: in the student's last message, outside its reasoning, by default in the last `\boxed{}`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from mentor_pl.trajectory import Trajectory

AnswerPlace = Literal["last_box", "only_box", "text"]
r"""Where an answer is looked for: in the last `\boxed{}`, in the only one (two are no answer), or in the whole last message."""

_BOX = re.compile(r"\\boxed\s*\{")


def final_answer(trajectory: Trajectory, place: AnswerPlace = "last_box") -> str | None:
    """Return the answer that a trajectory ends with; None where it has none, or where the student did not finish.

    Only the student's last message is read: no prompt, no tool's output, no earlier turn. Where a
    tool takes the answer (`final_tools`), it is that call's only argument, or all of them as a JSON
    object.
    """
    if not trajectory.finished:
        return None
    if trajectory.submission is not None:
        return _submitted(trajectory.submission)
    text = without_reasoning(trajectory.final_text)
    if place == "text":
        return text.strip() or None
    found = boxes(text)
    if not found or (place == "only_box" and len(found) > 1):
        return None
    return found[-1]


def _submitted(arguments: Mapping[str, Any]) -> str:
    values = list(arguments.values())
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return json.dumps(values[0] if len(values) == 1 else dict(arguments), ensure_ascii=False)


def without_reasoning(text: str) -> str:
    """Return what follows the last `</think>` (the prompt may have opened it); "" where a `<think>` was never closed."""
    spoken = text.rpartition("</think>")[2]
    return "" if "<think>" in spoken else spoken


def boxes(text: str) -> list[str | None]:
    r"""Return what stands in each `\boxed{}`, in order of their beginnings; None for an empty or unclosed one."""
    found: list[str | None] = []
    for match in _BOX.finditer(text):
        end = closing_brace(text, match.end())
        found.append((text[match.end() : end].strip() or None) if end is not None else None)
    return found


def unboxed(text: str) -> str:
    r"""Return what stands in the last `\boxed{}` of a reference's answer; the whole text where there is none."""
    found = boxes(text)
    return (found[-1] if found else None) or text.strip()


def closing_brace(text: str, start: int) -> int | None:
    r"""Return where the brace closes that was opened just before `start`; None where it never does.

    An escaped brace, as in `\{1,2\}`, encloses nothing.
    """
    depth, position = 1, start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return position
        position += 1
    return None
