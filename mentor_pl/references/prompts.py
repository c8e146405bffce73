"""Prompt files: problems with their answers, for a teacher to solve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mentor_pl.errors import DataFileError
from mentor_pl.files.fields import is_absent, refusal
from mentor_pl.files.jsonl import Row
from mentor_pl.files.references import reference_from_row
from mentor_pl.files.tables import read_rows
from mentor_pl.reference import Reference, group_by_prompt
from mentor_pl.references.replay import with_expected_state
from mentor_pl.rollout.world import World
from mentor_pl.tools.toolbox import ToolBox


def read_prompts(path: Path, toolbox: ToolBox, *, answers_needed: bool = True) -> Iterator[Reference]:
    """Read prompts one by one: reference rows without the teacher's part of them.

    Args:
        path: See `read_table`; `tools` may be missing, and then all that are the same for every
            prompt are offered.
        toolbox: Runs the tools.
        answers_needed: Refuse a prompt without an answer, since nothing could be verified.

    Raises:
        DataFileError: A line is bad, has no answer where one is needed, an id again, or a tool that
            no backend runs.
    """
    seen: set[str] = set()
    stem = path.stem.partition("?")[0]

    def parse(row: Row, where: str) -> Reference:
        wanted = {key: value for key, value in row.items() if key != "tool_calls"}
        if is_absent(row.get("tools")):
            wanted["tools"] = [tool.name for tool in toolbox.specs]
        if not answers_needed and is_absent(row.get("answer")):
            wanted["answer"] = ""
        read = reference_from_row(wanted, where, default_id=f"{stem}-{where.rpartition(':')[2]}")
        if answers_needed and not read.answers:
            raise refusal(
                where,
                "answer",
                expected="the right answer",
                found=row.get("answer"),
                remedy="without one no attempt can be verified; leave the prompt out",
            )
        for name in toolbox.missing(read):
            raise refusal(
                where,
                "tools",
                expected=f"some of {', '.join(tool.name for tool in toolbox.specs)}",
                found=name,
                remedy="add the backend that offers it",
            )
        if read.reference_id in seen:
            raise refusal(
                where, "id", expected="each id once", found=read.reference_id, remedy="give every prompt its own id"
            )
        seen.add(read.reference_id)
        return _unsolved(read, toolbox)

    return read_rows(path, parse)


def prompts_of(references: Iterable[Reference], world: World, *, source: str) -> list[Reference]:
    """Return the prompts of references, each once.

    The teacher's part stays where there is one: recorded tools answer from it, and rewards compare
    with it. A state that only its calls lead to becomes the expected one.

    Args:
        references: Those of an environment, for example.
        world: What the teacher acts in.
        source: Where they come from, for errors.

    Raises:
        DataFileError: One offers a tool that no backend runs.
    """
    toolbox = world.toolbox
    firsts = [prompt[0] for prompt in group_by_prompt(references, fields=world.reads_fields)]
    for first in firsts:
        for name in toolbox.missing(first):
            raise DataFileError(f"{source}: {first.reference_id!r} offers {name!r}; add the backend that runs it")
    expecting = (with_expected_state(first, toolbox) for first in firsts)
    return [replace(first, tools=tuple(toolbox.offered(first))) for first in expecting]


def _unsolved(reference: Reference, toolbox: ToolBox) -> Reference:
    return replace(reference, tools=tuple(toolbox.offered(reference)), tool_calls=(), messages=(), teacher=None)
