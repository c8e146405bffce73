"""`mentor-pl collect`: from your prompts, your tools and your teacher to verified references."""

from __future__ import annotations

import importlib
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mentor_pl.cli.parser import call
from mentor_pl.environments import Environment
from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.files.jsonl import write_rows
from mentor_pl.files.references import write_references
from mentor_pl.references.attempt import AttemptLimits, Endpoint
from mentor_pl.references.budget import Account, Budget, Spending
from mentor_pl.references.collect import CollectionReport, Collector, Sampling
from mentor_pl.references.endpoint_solver import EndpointSolver
from mentor_pl.references.journal import Journal
from mentor_pl.references.openai_teacher import OpenAITeacher
from mentor_pl.references.prompts import prompts_of, read_prompts
from mentor_pl.references.teacher import ChatTeacher, Teacher
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.correct import Correct
from mentor_pl.rollout.world import World
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.toolbox import ToolBox

__all__ = ["OpenAITeacher", "collect", "main"]


def collect(
    output: Path,
    teacher: Teacher,
    prompts: Path | None = None,
    tools: list[ToolBackend] | None = None,
    environment: Environment | None = None,
    final_tools: list[str] | None = None,
    judges: list[RewardComponent] | None = None,
    sampling: Sampling | None = None,
    limits: AttemptLimits | None = None,
    budget: Budget | None = None,
    journal: Path | None = None,
) -> None:
    """Let a teacher solve prompts with your tools; keep what is verified as references.

    Every reply is in the journal before it is used. A collection that was stopped, in whatever way,
    goes on where it was when the same command is given again, and pays for nothing twice. The
    output is written whole at the end, with a report beside it.

    Args:
        output: The reference file to write; the report goes to the same name with `.report.json`.
        teacher: Who solves them.
        prompts: File of prompts, with their answers where `Correct` judges.
        tools: The tool backends offered to the teacher, and later to the student.
        environment: Instead of `prompts`, `tools` and `final_tools`: an environment that has them.
            Its user speaks with the teacher, too.
        final_tools: Tools whose call ends an attempt, and whose arguments are its answer.
        judges: Each must score a solution 1.0. Unless given, what the environment's reward calls
            success; else Correct.
        sampling: How often a prompt is tried and what is kept.
        limits: Of one attempt.
        budget: What may be spent in all, restarts included.
        journal: Where replies are kept; the output's name with `.journal.jsonl` unless given.
    """
    console = Console(stderr=True)
    environment = _environment(environment, prompts, tools, final_tools)
    with ExitStack() as stack:
        toolbox = stack.enter_context(
            closing(ToolBox(environment.tools or [], final_tools=environment.final_tools or ()))
        )
        judges = judges or _judges(environment)
        if prompts is not None:
            # Other judges may ask for the state, or for calls: whether those are there, they say themselves.
            read = partial(read_prompts, prompts, toolbox, answers_needed=any(isinstance(j, Correct) for j in judges))
        else:
            world = World(toolbox=toolbox, user=environment.user)
            read = partial(prompts_of, environment.read(), world, source=environment.source)
        # All of it is read before anything is paid for.
        total = sum(1 for _ in read())
        if not total:
            raise DataFileError(
                f"{environment.source}: expected at least one prompt, found none; is it the right file?"
            )
        book = stack.enter_context(closing(Journal(journal or output.with_suffix(".journal.jsonl"))))
        before = Spending(
            requests=book.num_replies, prompt_tokens=book.prompt_tokens, completion_tokens=book.completion_tokens
        )
        account = Account(budget or Budget(), Spending(**asdict(before)))
        sampling, limits = sampling or Sampling(), limits or AttemptLimits()
        if isinstance(teacher, ChatTeacher):
            solver = EndpointSolver(Endpoint(teacher, book, account), toolbox, sampling, limits, environment.user)
        else:
            from mentor_pl.references.local_teacher import LocalSolver, LocalTeacher

            if not isinstance(teacher, LocalTeacher):
                raise ConfigError(f"teacher is a {type(teacher).__name__}; it must be a ChatTeacher or a LocalTeacher")
            solver = LocalSolver(teacher, book, toolbox, sampling, limits, environment.user)
        collector = Collector(solver, teacher.name, judges, sampling)
        progress = stack.enter_context(_progress(console))
        task = progress.add_task("collecting", total=total, kept=0)

        def advance() -> None:
            progress.update(task, advance=1, kept=collector.report.references)

        write_references(output, collector.references(read(), advance))
    report = _report(collector.report, account, before, teacher)
    write_rows(output.with_suffix(".report.json"), [report])
    _print(report, output, console)


def _environment(
    given: Environment | None,
    prompts: Path | None,
    tools: list[ToolBackend] | None,
    final_tools: list[str] | None,
) -> Environment:
    """Return the environment that the arguments name, or are."""
    own = {"prompts": prompts, "tools": tools, "final_tools": final_tools}
    if given is not None:
        if twice := [name for name, value in own.items() if value is not None]:
            raise ConfigError(f"collect: an environment is given, and {', '.join(twice)} too; leave out one of them")
        if given.tools is None:
            raise ConfigError(f"collect: the environment {given.source} has no tools; name them under it")
        return given
    if lacking := [name for name in ("prompts", "tools") if own[name] is None]:
        raise ConfigError(f"collect: {' and '.join(lacking)} missing; give them, or an environment that has them")
    return Environment(references=str(prompts), tools=tools, final_tools=final_tools)


def _judges(environment: Environment) -> list[RewardComponent]:
    program = environment.reward
    terms = {} if program is None else {term.name: term.component for term in program.terms}
    success = None if program is None else program.success_term
    return [Correct() if success is None else terms[success]]


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[kept]} references"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def _report(report: CollectionReport, account: Account, before: Spending, teacher: Teacher) -> dict[str, Any]:
    spent = asdict(account.spent)
    return {
        "teacher": dict(teacher.identity),
        "prompts": report.prompts,
        "solved": report.solved,
        "yield": report.solved / report.prompts if report.prompts else 0.0,
        "references": report.references,
        "attempts": report.attempts,
        "verified": report.verified,
        "not_verified": dict(report.causes.most_common()),
        "tool_calls": dict(report.calls.most_common()),
        "used_in": dict(report.used_in.most_common()),
        "spent": {**spent, "cost": account.cost},
        "spent_this_time": {key: spent[key] - earlier for key, earlier in asdict(before).items()},
        "retried": dict(teacher.faults.most_common()),
    }


def _print(report: dict[str, Any], output: Path, console: Console) -> None:
    console.print(
        f"{report['references']} references of {report['solved']} of {report['prompts']} prompts "
        f"({report['yield']:.1%}) written to {output}",
        markup=False,
        soft_wrap=True,
    )
    for title, key in (("attempts not verified", "not_verified"), ("calls", "tool_calls"), ("retried", "retried")):
        if report[key]:
            table = Table(title, "number")
            for name, count in report[key].items():
                table.add_row(escape(name), str(count))
            console.print(table)
    now, spent = report["spent_this_time"], report["spent"]
    tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    console.print(
        f"spent: {spent['requests']} replies ({now['requests']} of them now), {tokens} tokens, {spent['cost']:g}"
    )


def _names_local_teacher(argv: list[str]) -> bool:
    texts = [
        path.read_text(errors="replace")
        for word in argv
        if (path := Path(word)).suffix in (".yaml", ".yml") and path.exists()
    ]
    return any("LocalTeacher" in text for text in [*argv, *texts])


def main(argv: list[str]) -> None:
    """Run `mentor-pl collect`."""
    groups = ["mentor_pl.rewards", "mentor_pl.tools", "mentor_pl.environments", "mentor_pl.users"]
    # Only a teacher of one's own needs students and engines, which take seconds to import.
    if _names_local_teacher(argv):
        importlib.import_module("mentor_pl.references.local_teacher")
        groups += ["mentor_pl.students", "mentor_pl.engines"]
    try:
        call(collect, argv, prog="mentor-pl collect", groups=groups)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("collect was stopped; the same command goes on where it was") from stop
