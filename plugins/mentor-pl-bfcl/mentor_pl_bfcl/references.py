"""Cases as references: the user's turns, the tools, the expected calls."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mentor_pl.errors import ConfigError
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.converters import bfcl
from mentor_pl.references.converters.bfcl import json_schema
from mentor_pl_bfcl.cases import MULTI_TURN, SINGLE_TURN, Case, cases_of
from mentor_pl_bfcl.package import data_folder

CONVERTED = tuple(category for category in MULTI_TURN if category != "multi_turn_miss_func")
"""In `multi_turn_miss_func` functions are offered in the midst of the conversation, which a reference cannot say."""

_DOCS = {
    "GorillaFileSystem": "gorilla_file_system", "MathAPI": "math_api", "MessageAPI": "message_api", "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api", "TradingBot": "trading_bot", "TravelAPI": "travel_booking", "VehicleControlAPI": "vehicle_control",
}  # fmt: skip


def references_of(category: str) -> Iterator[Reference]:
    """Return all cases of a category that can be tried.

    Where the expected calls of a single-turn case cannot be said by its tools' schemas, or there
    are none, it has no teacher.

    Args:
        category: One of `SINGLE_TURN` or `CONVERTED`.

    Raises:
        ConfigError: It is none of them.
    """
    if category not in SINGLE_TURN:
        yield from multi_turn_references(category)
        return
    converted = {
        one.reference_id: one for one in bfcl(data_folder() / f"BFCL_v4_{category}.json") if isinstance(one, Reference)
    }
    for case in cases_of(category).values():
        yield replace(converted.get(case.case_id) or _without_teacher(case), domain=category)


def _without_teacher(case: Case) -> Reference:
    (turn,) = case.row["question"]
    return Reference(
        reference_id=case.case_id,
        prompt=tuple(Message(role=message["role"], content=message["content"]) for message in turn),
        answer="",
        tools=tuple(_spec(row) for row in case.row["function"]),
    )


def multi_turn_references(category: str) -> Iterator[Reference]:
    """Convert a category.

    Args:
        category: One of `CONVERTED`.

    Raises:
        ConfigError: It is none of them.
    """
    if category not in CONVERTED:
        raise ConfigError(f"{category!r} cannot be converted; there are {', '.join(CONVERTED)}")
    return (_reference(case) for case in cases_of(category).values())


def _reference(case: Case) -> Reference:
    first, *later = case.row["question"]
    excluded = set(case.row.get("excluded_function", ()))
    tools = tuple(tool for name in case.row["involved_classes"] for tool in _tools(name) if tool.name not in excluded)
    calls = [text for turn in case.truth for text in turn]
    return Reference(
        reference_id=case.case_id,
        prompt=tuple(Message(role=message["role"], content=message["content"]) for message in first),
        answer="",
        tools=tools,
        tool_calls=tuple(_call(text, number, tools) for number, text in enumerate(calls)),
        follow_ups=tuple("\n".join(message["content"] for message in turn) for turn in later),
        domain=case.category,
        teacher="bfcl",
    )


def _tools(class_name: str) -> list[ToolSpec]:
    path = data_folder() / "multi_turn_func_doc" / f"{_DOCS[class_name]}.json"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [_spec(row) for row in rows]


def _spec(row: Mapping[str, Any]) -> ToolSpec:
    return ToolSpec(name=row["name"], description=row.get("description", ""), parameters=json_schema(row["parameters"]))


def _call(text: str, number: int, tools: tuple[ToolSpec, ...]) -> ToolCall:
    parsed: Any = ast.parse(text.strip(), mode="eval").body
    name = parsed.func.id
    names = next((list(tool.parameters.get("properties", {})) for tool in tools if tool.name == name), [])
    arguments = {key: ast.literal_eval(value) for key, value in zip(names, parsed.args, strict=False)}
    arguments |= {keyword.arg: ast.literal_eval(keyword.value) for keyword in parsed.keywords}
    return ToolCall(call_id=f"call_{number}", name=name, arguments=json.loads(json.dumps(arguments)))
