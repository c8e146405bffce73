"""GSM8K (arXiv:2110.14168): its calculator annotations `<<48/2=24>>` become calls of the twelve arithmetic tools.

Every call is executed; a problem is rejected where a result differs from the stated one or the
final answer is no result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mentor_pl.files.fields import text_field
from mentor_pl.files.jsonl import Row
from mentor_pl.files.tables import read_rows
from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.references.converters.expression import (
    Calculation,
    CannotConvertError,
    Number,
    close,
    plain_number,
)
from mentor_pl.references.converters.outcome import Rejected
from mentor_pl.tools import arithmetic

INSTRUCTION = "\nPut the final answer in \\boxed{}."
"""Follows each question, so that a student knows where its answer is looked for."""

_ANNOTATION = re.compile(r"<<([^<>]*)>>")
_TOOLS = tuple(ToolSpec(name=name) for name in arithmetic.__all__)


def gsm8k(path: Path) -> Iterator[Reference | Rejected]:
    """Convert the published JSON Lines files (`question`, `answer`).

    Args:
        path: `train.jsonl` or `test.jsonl`.

    Yields:
        For each problem a reference that solves it one call a turn, or why there is none.
    """
    remedy = "give the GSM8K file as published, with 'question' and 'answer'"

    def parse(row: Row, where: str) -> Reference | Rejected:
        question = text_field(row, "question", where, remedy=remedy)
        solution = text_field(row, "answer", where, remedy=remedy)
        reference_id = f"gsm8k-{path.stem}-{where.rpartition(':')[2]}"
        try:
            return convert_problem(question, solution, reference_id)
        except CannotConvertError as failure:
            return Rejected(where=where, reason=str(failure))

    return read_rows(path, parse)


def convert_problem(question: str, solution: str, reference_id: str) -> Reference:
    """Convert one problem.

    Args:
        question: The problem in words.
        solution: Lines with annotations, and `#### answer` at the end.
        reference_id: Its id.

    Raises:
        CannotConvertError: An annotation is not understood, or does not give what it states.
    """
    text, mark, last = solution.partition("####")
    if not mark:
        raise CannotConvertError("there is no final answer")
    answer = plain_number(last.strip().replace(",", "").replace("$", ""))
    calculation = Calculation()
    rationales: dict[int, str] = {}
    for line in text.splitlines():
        start = 0
        for annotation in _ANNOTATION.finditer(line):
            first = len(calculation.steps)
            _execute(annotation[1], calculation)
            if len(calculation.steps) > first:
                rationales[first] = _rationale(line[start : annotation.start()])
            start = annotation.end()
    if not calculation.steps:
        raise CannotConvertError("there is no calculation")
    if not any(close(step.result, answer) for step in calculation.steps):
        raise CannotConvertError("the final answer is no result of a calculation")
    messages = _messages(calculation, rationales, answer)
    return Reference(
        reference_id=reference_id,
        prompt=(Message(role="user", content=question + INSTRUCTION),),
        answer=str(answer),
        tools=_TOOLS,
        tool_calls=tuple(call for message in messages for call in message.tool_calls),
        messages=messages,
        teacher="gsm8k-annotations",
        domain="gsm8k",
    )


def _execute(annotation: str, calculation: Calculation) -> None:
    written, mark, _ = annotation.partition("=")
    if not mark:
        raise CannotConvertError("a calculation states no result")
    value = calculation.run(written)  # <<5=5>> calls nothing, and is no fault
    if not close(value, Calculation().run(annotation.rpartition("=")[2])):
        raise CannotConvertError("a calculation does not give its stated result")


def _rationale(text: str) -> str:
    """Return what is said before an annotation, which never holds its result."""
    return text.strip().removesuffix("$").rstrip(" =").strip()


def _messages(calculation: Calculation, rationales: dict[int, str], answer: Number) -> tuple[Message, ...]:
    messages: list[Message] = []
    for index, step in enumerate(calculation.steps):
        call = ToolCall(call_id=f"call_{index}", name=step.name, arguments=step.arguments)
        messages += [
            Message(role="assistant", content=rationales.get(index, ""), tool_calls=(call,)),
            Message(role="tool", content=str(step.result), tool_call_id=call.call_id, name=call.name),
        ]
    messages.append(Message(role="assistant", content=f"The answer is \\boxed{{{answer}}}."))
    return tuple(messages)
