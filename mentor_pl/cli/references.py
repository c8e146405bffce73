"""`mentor-pl references`: make, check and extend reference files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mentor_pl.cli.names import suggestion
from mentor_pl.cli.parser import call
from mentor_pl.errors import UsageError
from mentor_pl.files import iter_references, iter_trajectories, write_references
from mentor_pl.reference import Reference
from mentor_pl.references.check import CheckReport, Finding, check_references
from mentor_pl.references.convert import convert as convert_file
from mentor_pl.references.converters import CONVERTERS
from mentor_pl.references.mentoring import Preference, references_from_trajectories
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.correct import Correct
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.toolbox import ToolBox


def check(
    path: Path,
    against: list[Path] | None = None,
    judge: RewardComponent | None = None,
    tools: list[ToolBackend] | None = None,
    final_tools: list[str] | None = None,
) -> bool:
    """Check a reference file: every line, duplicates, leaks, calls against their schemas; print statistics.

    Args:
        path: The reference file.
        against: Evaluation files that must not share a prompt with it.
        judge: Judge each solution's final message too, for example Correct.
        tools: Run each call again with these backends; it must say what the solution says that it
            said.
        final_tools: Tools whose call ends a solution, and whose arguments are its answer.

    Returns:
        True where nothing must be mended.
    """
    with closing(ToolBox(tools or [])) as toolbox:
        report = check_references(
            path,
            against=against or [],
            judges=[] if judge is None else [judge],
            toolbox=toolbox if tools else None,
            final_tools=final_tools or (),
        )
    _print_check(path, report, Console())
    return report.ok


def _print_check(path: Path, report: CheckReport, console: Console) -> None:
    console.print(f"{path}: {report.references} references of {report.prompts} prompts", markup=False, soft_wrap=True)
    for title, counts in (("teacher", report.teachers), ("domain", report.domains)):
        console.print(_histogram(title, "references", counts.most_common(20)))
    console.print(_histogram("calls per reference", "references", sorted(report.calls_per_reference.items())))
    tools = Table("tool", "calls", "used in", "offered in")
    for name in sorted({*report.offered, *report.called}, key=lambda name: (-report.called[name], name)):
        row = (report.called[name], report.used_in[name], report.offered[name])
        tools.add_row(escape(name), *(str(n) for n in row))
    console.print(tools)
    _print_findings("look at", report.warnings, console, style="yellow")
    _print_findings("mend", report.faults, console, style="red")
    if report.ok:
        console.print("nothing to mend", style="green")
    elif not report.references:
        console.print("mend: the file has no reference", style="red")


def _histogram(title: str, what: str, rows: list[tuple[str, int]] | list[tuple[int, int]]) -> Table:
    table = Table(title, what)
    for name, count in rows:
        table.add_row(escape(str(name)), str(count))
    return table


def _print_findings(word: str, findings: dict[str, Finding], console: Console, *, style: str) -> None:
    for kind, finding in findings.items():
        console.print(f"{word}: {kind}: {finding.count}", style=style, markup=False, soft_wrap=True)
        for example in finding.examples:
            console.print(f"    {example}", markup=False, soft_wrap=True)


def convert(
    input: Path,
    output: Path,
    judge: RewardComponent | None = None,
    tools: list[ToolBackend] | None = None,
    final_tools: list[str] | None = None,
    *,
    source: str,
) -> None:
    """Convert another format into references; each that is written has been replayed.

    Args:
        input: The file to convert.
        output: The reference file to write.
        judge: Judges each solution's final message; Correct unless given.
        tools: Run each call again with these backends; it must say what the solution says that it
            said.
        final_tools: Tools whose call ends a solution, and whose arguments are its answer.
        source: The converter's name.
    """
    with closing(ToolBox(tools or [])) as toolbox:
        report = convert_file(
            CONVERTERS[source],
            input,
            output,
            judges=[judge or Correct()],
            toolbox=toolbox if tools else None,
            final_tools=final_tools or (),
        )
    console = Console()
    console.print(f"{report.written} references ({report.share:.1%}) written to {output}", markup=False, soft_wrap=True)
    for reason, count in report.reasons.most_common():
        console.print(
            f"rejected: {reason}: {count}, for example {report.examples[reason]}", markup=False, soft_wrap=True
        )


def from_trajectories(
    references: Path,
    trajectories: Path,
    output: Path,
    judge: RewardComponent | None = None,
    keep: int = 1,
    prefer: Preference = "shortest",
    only_unsolved: bool = True,
    teacher: str = "self",
    tools: list[ToolBackend] | None = None,
) -> None:
    """Make references of a student's own best verified trajectories (self-mentoring).

    The output has every reference of the input, and the new ones behind those of their prompt. A
    prompt that only had no solution loses that empty row to its first new reference.

    Args:
        references: The reference file that the trajectories were sampled on.
        trajectories: What the student did, as a run records it.
        output: The reference file to write.
        judge: Verifies final answers; Correct unless given.
        keep: New references for each prompt.
        prefer: Which of several verified trajectories are kept.
        only_unsolved: Only for prompts for which the teacher has no solution.
        teacher: Name of the new references' teacher.
        tools: With state: the one that a teacher's calls lead to when they are run again is the
            expected one, where the references name none.
    """
    made: Counter[bool] = Counter()

    def counted(toolbox: ToolBox | None) -> Iterator[Reference]:
        for reference, is_new in references_from_trajectories(
            iter_references(references),
            iter_trajectories(trajectories),
            judges=[judge or Correct()],
            keep=keep,
            prefer=prefer,
            only_unsolved=only_unsolved,
            teacher=teacher,
            toolbox=toolbox,
        ):
            made[is_new] += 1
            yield reference

    with closing(ToolBox(tools or [])) as toolbox:
        write_references(output, counted(toolbox if tools else None))
    print(f"{made[True]} new references, {made[False]} old ones, written to {output}")


_COMMANDS: dict[str, Callable[..., object]] = {
    "check": check,
    "convert": convert,
    "from-trajectories": from_trajectories,
}


_USAGE = """usage: mentor-pl references COMMAND ...

  check              check a reference file: lines, duplicates, leaks, calls against their schemas
  convert            convert another format into references
  from-trajectories  make references of a student's own best verified trajectories

`mentor-pl references COMMAND --help` explains every key of a command."""


def main(argv: list[str]) -> None:
    """Run `mentor-pl references`; exit code 1 where `check` finds something to mend."""
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        print(_USAGE)
        return
    if name not in _COMMANDS:
        raise UsageError(
            f"references has no command {name!r}{suggestion(name, _COMMANDS)}; it has {', '.join(_COMMANDS)}"
        )
    ok = call(
        _COMMANDS[name],
        argv[1:],
        prog=f"mentor-pl references {name}",
        groups=("mentor_pl.rewards", "mentor_pl.tools"),
        as_positional=name == "check",
        renamed={"source": "from"} if name == "convert" else None,
        choices={"source": tuple(CONVERTERS)} if name == "convert" else None,
    )
    if ok is False:
        raise SystemExit(1)
