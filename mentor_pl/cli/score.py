"""`mentor-pl score`: rewards of saved trajectories, without any training."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mentor_pl.cli.parser import call
from mentor_pl.errors import DataFileError
from mentor_pl.files import iter_trajectories, read_references, write_rows
from mentor_pl.messages import ToolCall
from mentor_pl.reference import Reference
from mentor_pl.references.replay import with_expected_state
from mentor_pl.rewards.answers import final_answer
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.explanation import as_shown, explain_scored
from mentor_pl.rewards.program import RewardProgram, ScoredGroup
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import TrajectoryGroup

REWARDS = "mentor_pl.rewards"


def score(
    program: RewardProgram,
    references: Path,
    trajectories: Path,
    output: Path | None = None,
    explain: str | None = None,
    tools: list[ToolBackend] | None = None,
) -> None:
    """Score saved trajectories, each for itself, against the reference that it names.

    Writes one row per trajectory, in the file's order: reference_id, sample_index, reward, scores
    (of each term by name) and exit (the one taken, or null).

    Args:
        program: The reward program, for example configs/rewards/mentor.yaml.
        references: JSON Lines file of references.
        trajectories: JSON Lines file of trajectories.
        output: JSON Lines file to write; without it (and without --explain) the rows are printed.
        explain: Id of a reference: print how the rewards of its trajectories come about.
        tools: With state: the one that a teacher's calls lead to when they are run again is the
            expected one, where the references name none.

    Raises:
        DataFileError: A file cannot be read, or a trajectory names a reference that there is not.
        RewardError: A component broke its contract.
    """
    known = {reference.reference_id: reference for reference in read_references(references)}
    if explain is not None and explain not in known:
        raise DataFileError(f"{references}: there is no reference with the id {explain!r} to explain")
    console = Console()
    with closing(ToolBox(tools or [])) as toolbox:
        scored = _scored(program, known, references, trajectories, toolbox)
        _write(_rows(scored, program, explain, console), output, explain, console)


def _write(rows: Iterator[dict[str, Any]], output: Path | None, explain: str | None, console: Console) -> None:
    if output is not None:
        count = write_rows(output, rows)
        console.print(f"{count} rows written to {output}", markup=False)
    elif explain is not None:
        for _ in rows:
            pass
    else:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))


def _scored(
    program: RewardProgram, known: dict[str, Reference], references: Path, trajectories: Path, toolbox: ToolBox
) -> Iterator[ScoredGroup]:
    expecting = functools.cache(lambda key: with_expected_state(known[key], toolbox))
    for number, trajectory in enumerate(iter_trajectories(trajectories), start=1):
        reference = known.get(trajectory.reference_id)
        if reference is None:
            raise DataFileError(
                f"{trajectories}: trajectory {number} names the reference {trajectory.reference_id!r}, which {references} "
                "does not have; score it with the file that its prompts came from"
            )
        group = TrajectoryGroup(references=(expecting(reference.reference_id),), trajectories=(trajectory,))
        yield program.score_group(group)


def _rows(
    scored: Iterator[ScoredGroup], program: RewardProgram, explain: str | None, console: Console
) -> Iterator[dict[str, Any]]:
    explained = False
    for one in scored:
        trajectory = one.group.trajectories[0]
        if trajectory.reference_id == explain:
            explained = True
            console.print(explanation(program, one))
        yield {
            "reference_id": trajectory.reference_id,
            "sample_index": trajectory.sample_index,
            **one.to_row(0),
            "exit": one.exits[0],
        }
    if explain is not None and not explained:
        raise DataFileError(f"no trajectory names the reference {explain!r}; there is nothing to explain")


def explanation(program: RewardProgram, scored: ScoredGroup) -> Group:
    """Return a table, and the facts behind it, of how the reward of a group's first trajectory comes about.

    Args:
        program: What scored it.
        scored: A group of one.
    """
    told = explain_scored(program, scored)
    table = Table(
        title=escape(f"{told.reference_id}, sample {told.sample_index}: reward {as_shown(told.reward)}"),
        title_justify="left",
    )
    for heading in ("term", "component", "score", "weight", "gate", "adds"):
        table.add_column(heading)
    for exit_ in program.exits:
        taken = "taken" if exit_.name == told.left_by else ""
        table.add_row("exit", escape(exit_.name), taken, "", "", f"{exit_.reward:g}" if taken else "", style="dim")
    for share in told.terms:
        term = share.term
        gate = "" if term.gate is None else f"{term.gate} = {share.gate_score:g}, floor {term.gate_floor:g}"
        table.add_row(
            escape(term.name),
            type(term.component).__name__,
            as_shown(share.score),
            f"{term.weight:g}",
            escape(gate),
            as_shown(share.adds) if told.left_by is None else f"({as_shown(share.adds)})",
        )
    table.add_section()
    table.add_row("reward", escape(told.left_by or ""), "", "", "", as_shown(told.reward), style="bold")
    return Group(table, *map(Text, _facts(program, scored)), "")


def _facts(program: RewardProgram, scored: ScoredGroup) -> list[str]:
    trajectory, reference = scored.group.trajectories[0], scored.group.references[0]
    correct = next((t.component for t in program.terms if isinstance(t.component, Correct)), Correct())
    answer = final_answer(trajectory, correct.place)
    return [
        f"stopped:       {trajectory.stop_reason.value}",
        f"answer:        {'none' if answer is None else answer}",
        f"right answer:  {reference.answer or 'none'}",
        f"student calls: {_calls(trajectory.tool_calls)}",
        f"teacher calls: {_calls(reference.tool_calls)}",
        f"tools offered: {', '.join(tool.name for tool in reference.tools) or 'none'}",
    ]


def _calls(calls: Sequence[ToolCall]) -> str:
    return ", ".join(_call(call) for call in calls) or "none"


def _call(call: ToolCall) -> str:
    if call.parse_error is not None:
        return f"{call.name or '?'}(malformed)"
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return f"{call.name}({arguments})"


def main(argv: list[str]) -> None:
    """Run `mentor-pl score`."""
    call(score, argv, prog="mentor-pl score", groups=(REWARDS, "mentor_pl.tools"))
