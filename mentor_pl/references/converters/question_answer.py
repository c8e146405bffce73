r"""Files of questions and answers: mathematics (GSM8K, MATH, AIME, AMC, Minerva, Omni-MATH) and question answering.

The question is `question` or `problem`. The answer is the first that there is of `golden_answers`
(a list), `answer`, `expected_answer`, `final_answer`; else the last box of `solution`. GSM8K's
answers end in `#### 42`; of a worked answer with a box the box counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mentor_pl.files.fields import is_absent
from mentor_pl.files.jsonl import Row
from mentor_pl.files.tables import read_rows
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.references.converters.gsm8k import INSTRUCTION
from mentor_pl.references.converters.outcome import Rejected
from mentor_pl.rewards.answers import boxes

_QUESTIONS = ("question", "problem", "Question", "Problem")
_ANSWERS = ("golden_answers", "answer", "expected_answer", "final_answer", "Answer")
_IDS = ("id", "_id", "ID", "unique_id")
_DOMAINS = ("subject", "type", "domain")
_PASSAGES = ("context", "supporting_facts", "evidences")
_READ = frozenset((*_QUESTIONS, *_ANSWERS, *_IDS, "solution"))


def question_answer(path: Path) -> Iterator[Reference | Rejected]:
    """Convert a file of questions and answers.

    Args:
        path: In any form that `files.tables.read_rows` takes: HotpotQA's JSON arrays, JSON Lines,
            CSV, parquet.

    Yields:
        For each row a reference without a teacher's solution, or why there is none. Further fields
        are kept, but for the passages of reading comprehension: they are to be searched for.
    """
    return read_rows(path, lambda row, where: _convert(row, where, path.stem))


def _convert(row: Row, where: str, stem: str) -> Reference | Rejected:
    question = next((row[name] for name in _QUESTIONS if isinstance(row.get(name), str) and row[name].strip()), None)
    if question is None:
        return Rejected(where=where, reason="there is no question")
    answers = _answers(row)
    if not answers:
        return Rejected(where=where, reason="there is no answer")
    row_id = next((row[name] for name in _IDS if not is_absent(row.get(name))), where.rpartition(":")[2])
    domain = next((row[name] for name in _DOMAINS if isinstance(row.get(name), str) and row[name]), None)
    return Reference(
        reference_id=f"{stem}-{row_id}",
        prompt=(Message(role="user", content=question.strip() + INSTRUCTION),),
        answer=answers[0],
        other_answers=tuple(answers[1:]),
        tools=(),
        domain=domain or stem,
        fields={key: value for key, value in row.items() if key not in _READ and key not in _PASSAGES},
    )


def _answers(row: Row) -> list[str]:
    for name in _ANSWERS:
        value = row.get(name)
        if is_absent(value) or (isinstance(value, str) and not value.strip()):
            continue
        found = [_answer(item) for item in (value if isinstance(value, list) else [value])]
        return list(dict.fromkeys(answer for answer in found if answer))
    solution = row.get("solution")
    box = boxes(solution) if isinstance(solution, str) else []
    return [box[-1]] if box and box[-1] else []


def _answer(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # AMC's 142.0
    text = str(value).rpartition("####")[2].strip() if isinstance(value, str) else str(value)
    box = boxes(text)
    return (box[-1] or "") if box else text
