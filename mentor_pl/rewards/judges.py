"""When two answers count as one: as numbers, and as lists element by element."""

from __future__ import annotations

import re
from collections.abc import Callable

from mentor_pl.rewards.numbers import read_number, within

Judge = Callable[[str, str], bool]
"""`(answer, gold) -> the answer is right`."""

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_OPENING, _CLOSING = "([{", ")]}"


def equal_as_numbers(answer: str, gold: str, tolerance: float = 1e-6) -> bool:
    """Compare numbers within a relative tolerance; False where one of the two is no number."""
    a, b = read_number(answer), read_number(gold)
    return a is not None and b is not None and within(a, b, tolerance)


def element_by_element(judge: Judge) -> Judge:
    """Make a judge that compares lists, tuples, sets and intervals in the reference's order and with its brackets."""

    def strict(answer: str, gold: str) -> bool:
        brackets, answers = _elements(answer)
        wanted, golds = _elements(gold)
        if len(answers) == len(golds) == 1:
            return judge(answer, gold)
        return brackets == wanted and len(answers) == len(golds) and all(map(judge, answers, golds))

    return strict


def _elements(text: str) -> tuple[str, list[str]]:
    r"""Return the outer brackets of a list and its elements: `\{1,2\}` is ("{}", ["1", "2"]), `1,234` is ("", ["1,234"])."""
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\(?=[{}])", "", text).strip()
    inner = text[1:-1] if _enclosed(text) else text
    parts = _split(inner if inner != text else _THOUSANDS.sub("", text))
    if len(parts) == 1:
        return "", [text]
    return (text[0] + text[-1] if inner != text else ""), parts


def _enclosed(text: str) -> bool:
    if len(text) < 2 or text[0] not in _OPENING:
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0:
            return position == len(text) - 1
    return False


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
