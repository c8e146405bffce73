"""Prompt files: problems with their answers, for a teacher to solve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mentor_pl.files.fields import is_absent, refusal
from mentor_pl.files.jsonl import Row
from mentor_pl.files.references import reference_from_row
from mentor_pl.files.tables import read_rows
from mentor_pl.messages import ToolSpec
from mentor_pl.reference import Reference


def read_prompts(path: Path, offered: Sequence[ToolSpec]) -> Iterator[Reference]:
    """Read prompts one by one: reference rows of which only prompt, answer, tools, id and domain count.

    Args:
        path: A JSON Lines file; `tools` may be missing, and then all are offered.
        offered: What the backends offer.

    Raises:
        DataFileError: A line is bad, has no answer (nothing could be verified), an id again, or a tool that no backend offers.
    """
    known = {tool.name: tool for tool in offered}
    seen: set[str] = set()
    stem = path.stem

    def parse(row: Row, where: str) -> Reference:
        wanted = {key: value for key, value in row.items() if key != "tool_calls"}
        if is_absent(row.get("tools")):
            wanted["tools"] = list(known)
        read = reference_from_row(wanted, where, default_id=f"{stem}-{where.rpartition(':')[2]}")
        if not read.answers:
            raise refusal(
                where,
                "answer",
                expected="the right answer",
                found=row.get("answer"),
                remedy="without one no attempt can be verified; leave the prompt out",
            )
        for tool in read.tools:
            if tool.name not in known:
                raise refusal(
                    where,
                    "tools",
                    expected=f"some of {', '.join(known)}",
                    found=tool.name,
                    remedy="add the backend that offers it",
                )
        if read.reference_id in seen:
            raise refusal(
                where, "id", expected="each id once", found=read.reference_id, remedy="give every prompt its own id"
            )
        seen.add(read.reference_id)
        tools = tuple(known[tool.name] for tool in read.tools)
        return replace(read, tools=tools, tool_calls=(), messages=(), teacher=None)

    return read_rows(path, parse)
