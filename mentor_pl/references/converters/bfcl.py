"""BFCL, the Berkeley Function-Calling Leaderboard (files of the `bfcl-eval` package), single-turn cases.

A case has no answer in words: its references hold prompt, tools and expected calls, every call
checked against its tool's schema. The teacher's solution is one message with these calls. Of the
values that a case accepts for an argument the first that fits is taken; all of them stand in the
field `accepted_arguments`. In the irrelevance cases the teacher calls nothing and says `REFUSAL`,
which are our words. Multi-turn cases need the leaderboard's own simulators and are rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema

from mentor_pl.files.conversation import messages_from_rows
from mentor_pl.files.fields import text_field
from mentor_pl.files.jsonl import Row
from mentor_pl.files.tables import read_rows
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.converters.foreign_tools import json_schema
from mentor_pl.references.converters.outcome import Rejected

REFUSAL = "None of the given functions can do this."
"""What the teacher says where no function fits; the leaderboard's files hold no words."""


def bfcl(path: Path) -> Iterator[Reference | Rejected]:
    """Convert one file of cases; its expected calls are read from `possible_answer/`, beside it, where they are there.

    Args:
        path: For example `BFCL_v4_multiple.json` (JSON Lines in spite of its name).

    Yields:
        For each case a reference, or why there is none.
    """
    truths: dict[str, list[Any]] = {}
    answers = path.parent / "possible_answer" / path.name
    if answers.exists():
        truths = dict(read_rows(answers, lambda row, where: (_id(row, where), row.get("ground_truth") or [])))

    def parse(row: Row, where: str) -> Reference | Rejected:
        return _convert(row, where, truths.get(_id(row, where), []), domain=path.stem)

    return read_rows(path, parse)


def _id(row: Row, where: str) -> str:
    return text_field(row, "id", where, remedy="give a data file of the bfcl-eval package")


def _convert(row: Row, where: str, truth: list[Any], *, domain: str) -> Reference | Rejected:
    turns = row.get("question")
    if not isinstance(turns, list) or not isinstance(row.get("function"), list):
        return Rejected(where=where, reason="the case has no functions of its own")
    if len(turns) != 1:
        return Rejected(where=where, reason="the case has several turns")
    # Of the files without expected calls, only in these is calling nothing known to be right.
    if not truth and "irrelevance" not in domain:
        return Rejected(where=where, reason="the case has no expected calls")
    try:
        prompt = _prompt(turns[0], where)
        tools = tuple(_tool(function) for function in row["function"])
        by_name = {tool.name: tool for tool in tools}
        calls = tuple(_call(expected, index, by_name) for index, expected in enumerate(truth))
    except (LookupError, TypeError, ValueError, AttributeError):
        return Rejected(where=where, reason="the case is not of the published form")
    if len(by_name) < len(tools):
        return Rejected(where=where, reason="two functions have one name")
    for call in calls:
        if call.name not in by_name:
            return Rejected(where=where, reason="an expected call names no offered function")
        if not jsonschema.Draft202012Validator(by_name[call.name].parameters).is_valid(dict(call.arguments)):
            return Rejected(where=where, reason="an expected call does not fit its function's schema")
    return Reference(
        reference_id=_id(row, where),
        prompt=prompt,
        answer="",
        tools=tools,
        tool_calls=calls,
        messages=(Message(role="assistant", content="" if calls else REFUSAL, tool_calls=calls),),
        teacher="bfcl",
        domain=domain,
        fields={"accepted_arguments": _accepted(truth)} if truth else {},
    )


def _prompt(rows: Any, where: str) -> tuple[Message, ...]:
    prompt = messages_from_rows(rows, where, "question[0]")
    if not prompt or prompt[-1].role != "user":
        raise ValueError("the prompt does not end in a user message")
    return prompt


def _tool(function: Mapping[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=function["name"],
        description=function.get("description", ""),
        parameters=json_schema(function["parameters"]),
    )


def _call(expected: Mapping[str, Any], index: int, tools: Mapping[str, ToolSpec]) -> ToolCall:
    ((name, accepted),) = expected.items()
    parameters = tools[name].parameters if name in tools else {}
    required, properties = parameters.get("required", []), parameters.get("properties", {})
    arguments = {
        key: _first(values, properties.get(key, {}))
        for key, values in accepted.items()
        if values and (key in required or "" not in values)
    }
    return ToolCall(call_id=f"call_{index}", name=name, arguments=arguments)


def _first(values: list[Any], schema: Mapping[str, Any]) -> Any:
    """Return the first accepted value that the schema admits, else the first.

    "" among them is BFCL's way to say that the argument is optional.
    """
    plain = [_plain(value, schema) for value in values if value != ""] or [""]
    fits = jsonschema.Draft202012Validator(schema).is_valid
    return next((value for value in plain if fits(value)), plain[0])


def _plain(value: Any, schema: Mapping[str, Any]) -> Any:
    """Within objects, too, every value is a list of accepted ones."""
    if isinstance(value, dict):
        inner = schema.get("properties") or {}
        return {
            key: _first(item, inner.get(key, {})) if isinstance(item, list) and item else item
            for key, item in value.items()
            if not (isinstance(item, list) and "" in item)
        }
    if isinstance(value, list):
        return [_plain(item, schema.get("items") or {}) for item in value]
    return value


def _accepted(truth: list[Any]) -> list[dict[str, list[Any]]]:
    """Return for each expected call the accepted values of its arguments, as `CallMatch` reads them."""
    out: list[dict[str, list[Any]]] = []
    for expected in truth:
        ((_, accepted),) = expected.items()
        out.append({key: [value for value in values if value != ""] for key, values in accepted.items()})
    return out
