"""Looking a reference file over before money or days are spent on it: faults, duplicates, leaks, statistics."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema

from mentor_pl.errors import DataFileError
from mentor_pl.files.references import iter_references, reference_from_row
from mentor_pl.files.tables import read_table
from mentor_pl.messages import Message, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.replay import find_fault
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.tools.toolbox import ToolBox

_EXAMPLES = 5
_MAX_VALIDATORS = 1024


@dataclass(slots=True)
class Finding:
    """One kind of fault.

    Attributes:
        count: How often it was found.
        examples: The first few, each with its place.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)


@dataclass(slots=True)
class CheckReport:
    """What is in a reference file.

    Attributes:
        references: Lines that hold a reference.
        prompts: Distinct prompts among them.
        faults: What must be mended, by kind.
        warnings: What should be looked at, by kind.
        calls_per_reference: Number of calls -> number of references.
        offered: Tool -> references that offer it.
        called: Tool -> calls of it.
        used_in: Tool -> references that call it.
        teachers: Teacher -> references.
        domains: Domain -> references.
    """

    references: int = 0
    prompts: int = 0
    faults: dict[str, Finding] = field(default_factory=dict)
    warnings: dict[str, Finding] = field(default_factory=dict)
    calls_per_reference: Counter[int] = field(default_factory=Counter)
    offered: Counter[str] = field(default_factory=Counter)
    called: Counter[str] = field(default_factory=Counter)
    used_in: Counter[str] = field(default_factory=Counter)
    teachers: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """True where there is a reference and no fault."""
        return self.references > 0 and not self.faults


def check_references(
    path: Path,
    *,
    against: Sequence[Path] = (),
    judges: Sequence[RewardComponent] = (),
    toolbox: ToolBox | None = None,
    final_tools: Collection[str] = (),
) -> CheckReport:
    """Read a reference file once and say what is in it. Per reference only three 8-byte digests are kept.

    Args:
        path: The file; its bad lines are counted, not raised.
        against: Reference files that must not share a prompt with it: the evaluation sets.
        judges: Each must score every solution 1.0.
        toolbox: Runs every call again, where given.
        final_tools: Tools whose call ends a solution; their arguments are its answer.

    Raises:
        DataFileError: A file cannot be read at all, or a line of `against` is bad.
    """
    check = _Check(against)
    for where, reference in _references(path, check.report):
        check.take(where, reference)
        if (judges or toolbox) and (
            fault := find_fault(reference, judges=judges, toolbox=toolbox, final_tools=final_tools)
        ):
            check.fault(f"replay: {fault}", where)
    return check.report


def _digest(*parts: str) -> int:
    """Return 8 bytes that stand for texts; two different ones collide once in 2^64."""
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "big")


def _words(messages: Sequence[Message], *roles: str) -> str:
    """Return what is said, whatever its case and white space."""
    return " ".join(" ".join(m.content for m in messages if not roles or m.role in roles).casefold().split())


def _first_state(reference: Reference) -> str:
    """Return what tools with state start from: the same words about another state are another task."""
    return json.dumps(reference.initial_state, sort_keys=True, default=str)


def _references(path: Path, report: CheckReport) -> Iterator[tuple[str, Reference]]:
    for where, row in read_table(path):
        try:
            if isinstance(row, DataFileError):
                raise row
            reference = reference_from_row(row, where, default_id=where)
        except DataFileError as failure:
            report.faults.setdefault("unreadable line", Finding()).add(str(failure))
        else:
            yield where, reference


class _Check:
    """Takes references in, one by one."""

    def __init__(self, against: Sequence[Path]) -> None:
        self.report = CheckReport()
        self._ids: set[int] = set()
        self._solutions: set[int] = set()
        self._prompts: dict[int, int] = {}
        self._validators: dict[int, tuple[ToolSpec, jsonschema.Draft202012Validator | str]] = {}
        self._held_out = {
            _digest(_words(reference.prompt, "user"), _first_state(reference))
            for reference in chain.from_iterable(iter_references(other) for other in against)
        }

    def fault(self, kind: str, example: str) -> None:
        self.report.faults.setdefault(kind, Finding()).add(example)

    def warn(self, kind: str, example: str) -> None:
        self.report.warnings.setdefault(kind, Finding()).add(example)

    def take(self, where: str, reference: Reference) -> None:
        self._count(reference)
        self._compare(where, reference)
        self._look_for_leaks(where, reference)
        self._judge_calls(where, reference)

    def _count(self, reference: Reference) -> None:
        report = self.report
        names = [call.name for call in reference.tool_calls]
        report.references += 1
        report.calls_per_reference[len(names)] += 1
        report.offered.update(tool.name for tool in reference.tools)
        report.called.update(names)
        report.used_in.update(set(names))
        report.teachers[reference.teacher or "not named"] += 1
        report.domains[reference.domain or "not named"] += 1

    def _compare(self, where: str, reference: Reference) -> None:
        place = f"{where} ({reference.reference_id})"
        id_digest = _digest(reference.reference_id)
        if id_digest in self._ids:
            self.fault("an id stands twice", place)
        self._ids.add(id_digest)
        prompt = _digest(_words(reference.prompt), _first_state(reference), *reference.follow_ups)
        shared = _digest(reference.answer, *sorted(tool.name for tool in reference.tools))
        if prompt not in self._prompts:
            self.report.prompts += 1
        if self._prompts.setdefault(prompt, shared) != shared:
            self.fault("references of one prompt differ in answer or tools", place)
        calls = [f"{call.name} {json.dumps(dict(call.arguments), sort_keys=True)}" for call in reference.tool_calls]
        solution = _digest(str(prompt), *calls, _words(reference.messages, "assistant"))
        if solution in self._solutions:
            self.warn("a solution stands twice", place)
        self._solutions.add(solution)

    def _look_for_leaks(self, where: str, reference: Reference) -> None:
        question, answer = _words(reference.prompt, "user"), reference.answer.casefold().strip()
        if _digest(question, _first_state(reference)) in self._held_out:
            self.fault("the prompt is one of the evaluation files' too", where)
        if not answer:
            self.warn("there is no answer: Correct and TextAnswer have nothing to compare with", where)
        elif answer in question and re.search(rf"(?<![\w.]){re.escape(answer)}(?![\w]|\.\d)", question):
            self.warn("the answer stands in the prompt", f"{where}: {reference.answer!r}")

    def _judge_calls(self, where: str, reference: Reference) -> None:
        if not reference.tool_calls:
            self.warn("the teacher calls no tool", where)
        offered = {tool.name: tool for tool in reference.tools}
        for call in reference.tool_calls:
            if call.name not in offered:
                self.fault("a call names a tool that is not offered", f"{where}: {call.name!r}")
            elif call.parse_error is not None:
                self.fault("a call is malformed", f"{where}: {call.parse_error}")
            else:
                self._judge_arguments(where, offered[call.name], dict(call.arguments))

    def _judge_arguments(self, where: str, tool: ToolSpec, arguments: Mapping[str, Any]) -> None:
        # Equal tools of a file are one object, which is held here so that its id stays its own.
        if id(tool) not in self._validators:
            if len(self._validators) >= _MAX_VALIDATORS:  # a file whose every row has tools of its own
                self._validators.clear()
            self._validators[id(tool)] = tool, _validator(tool)
        _, validator = self._validators[id(tool)]
        if isinstance(validator, str):
            self.fault("a tool's parameters are no JSON Schema", f"{where}: {tool.name!r}: {validator}")
        # Calls of which only the name is known come without arguments.
        elif arguments and (error := next(validator.iter_errors(arguments), None)):
            self.fault("arguments do not fit the tool's schema", f"{where}: {tool.name!r}: {error.message}")


def _validator(tool: ToolSpec) -> jsonschema.Draft202012Validator | str:
    try:
        jsonschema.Draft202012Validator.check_schema(tool.parameters)
    except jsonschema.SchemaError as failure:
        return failure.message
    return jsonschema.Draft202012Validator(tool.parameters)
