"""BFCL, the Berkeley Function-Calling Leaderboard (files of the `bfcl-eval` package), single-turn cases.

A case has no answer in words: its references hold prompt, tools and expected calls, every call checked against its tool's schema. Of the
values that a case accepts for an argument the first is taken. The irrelevance cases become prompts whose
teacher calls nothing. Multi-turn cases need the leaderboard's own simulators and are rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema

from mentor_pl.files.conversation import messages_from_rows
from mentor_pl.files.fields import text_field
from mentor_pl.files.jsonl import Row, read_rows
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.converters.outcome import Rejected

_TYPES = {"dict": "object", "float": "number", "double": "number", "long": "integer", "tuple": "array", "list": "array"}
"""BFCL's type names where JSON Schema has others. Types of Java and JavaScript cases that are not here admit any value."""

_JSON_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


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
        teacher="bfcl",
        domain=domain,
    )


def _prompt(rows: Any, where: str) -> tuple[Message, ...]:
    prompt = messages_from_rows(rows, where, "question[0]")
    if not prompt or prompt[-1].role != "user":
        raise ValueError("the prompt does not end in a user message")
    return prompt


def _tool(function: Mapping[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=function["name"], description=function.get("description", ""), parameters=_schema(function["parameters"])
    )


def _schema(node: Any, *, names: bool = False) -> Any:
    """Put JSON Schema's type names; `names` is True where the keys of `node` are property names and so never keywords."""
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "type" and not names:
            kind = _TYPES.get(str(value).lower(), str(value).lower())
            if kind in _JSON_TYPES:
                out["type"] = kind
        elif key in ("default", "enum"):
            out[key] = value
        elif key == "optional" and not names:
            continue
        else:
            out[key] = _schema(value, names=key == "properties" and not names)
    return out


def _call(expected: Mapping[str, Any], index: int, tools: Mapping[str, ToolSpec]) -> ToolCall:
    ((name, accepted),) = expected.items()
    required = tools[name].parameters.get("required", []) if name in tools else []
    arguments = {
        key: _first(values) for key, values in accepted.items() if values and (key in required or "" not in values)
    }
    return ToolCall(call_id=f"call_{index}", name=name, arguments=arguments)


def _first(values: list[Any]) -> Any:
    """Return the first accepted value; "" among them is BFCL's way to say that the argument is optional."""
    return _plain(next((value for value in values if value != ""), ""))


def _plain(value: Any) -> Any:
    """Within objects, too, every value is a list of accepted ones."""
    if isinstance(value, dict):
        return {
            key: _first(inner) if isinstance(inner, list) and inner else inner
            for key, inner in value.items()
            if not (isinstance(inner, list) and "" in inner)
        }
    return [_plain(item) for item in value] if isinstance(value, list) else value
