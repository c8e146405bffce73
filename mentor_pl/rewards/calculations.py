r"""Answers that are still to be worked out, such as `17 \times 23`, and equations, which are more than their right side."""

from __future__ import annotations

import re

from mentor_pl.rewards.plain_text import undecorated

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(
    rf"\\[dtc]?frac\s*\{{\s*[-+]?{_DIGITS}\s*\}}\s*\{{\s*{_DIGITS}\s*\}}|\\[dtc]?frac\s*\d\s*\d"
    rf"|{_DIGITS}\s*/\s*{_DIGITS}"
    rf"|{_DIGITS}\s*(?:\\times|\\cdot|×|·|\*)\s*10\s*\^\s*(?:\{{\s*[-+]?\d+\s*\}}|[-+]?\d+)"
    rf"|{_DIGITS}"
)
_HARMLESS = re.compile(
    r"\\(?:text|textrm|mathrm|mbox|mathbf)\s*\{[^{}]*\}|\\(?:left|right|quad|qquad|displaystyle|approx|pm|mp|infty|cup|in|emptyset|circ|[lg]eq?|"
    r"ldots|dots)(?![a-zA-Z])|\\[ ,;:!%${}()\[\]]"
)
_OPERATOR = re.compile(r"[+*/^!×÷·√|]|N\s*-|-\s*\(|N\s*[(N]|\)\s*[(N]|\\[a-zA-Z]+|[a-z]{2,}\s*\(")
_BASE = re.compile(r"\d\s*_\s*\{?\s*(?:\\text\{)?(\d+)")
_IRRATIONAL = re.compile(r"\\(?:sqrt|pi|ln|log|exp|sin|cos|tan)(?![a-z])|[π√]|(?<![a-zA-Z\\])e(?![a-zA-Z])")
_LIST = re.compile(r"[N,;()\[\]{}\s-]*")
_NAME = re.compile(
    r"(?:\\(?:text|mathrm)\s*\{[^{}]*\}|\\[a-zA-Z]+|[A-Za-z][A-Za-z ]*)(?:_(?:\{[^{}]*\}|\w))?'*(?:\s*\([^()]*\))?\s*"
)


def sides(text: str) -> list[str]:
    """Split an equation at its equals signs; a text without one has one side."""
    return [side.strip() for side in re.split(r"(?<![<>!:=\\])=(?!=)", undecorated(text))]


def last_side(text: str) -> str:
    """Return the right side of `x = 7`, and any other text as it is, an equation with more than a name on the left too."""
    *others, last = sides(text)
    return last if len(others) == 1 and is_name(others[0]) else text


def is_name(side: str) -> bool:
    r"""Say whether one side of an equation only names what the other is: x, `x_1`, `\theta`, f(2), `\text{area}`."""
    return bool(_NAME.fullmatch(side))


def is_worked(text: str) -> bool:
    r"""Say whether nothing is left to be worked out in numbers and lists of numbers.

    A fraction is a number, and so is 2.5 * 10^6; `17 \times 23`, 2^{10}, 10!, `\sqrt{16}` and 3+4
    are calculations.
    """
    return not _OPERATOR.search(_skeleton(text))


def is_closed_form(text: str) -> bool:
    r"""Say whether roots, constants or functions stand in a text: `\frac{\sqrt{3}}{2}` is how 0.8660... is written exactly."""
    return bool(_IRRATIONAL.search(text))


def in_another_base(answer: str, gold: str) -> bool:
    """Say whether an answer names a base, as `25_8` does, that the right one does not: math-verify passes over it."""
    base, wanted = (match[1] if (match := _BASE.search(text)) else "10" for text in (answer, gold))
    return base != wanted and bool(_BASE.search(answer))


def only_numbers(text: str) -> bool:
    """Say whether a text holds numbers, signs, commas and brackets only."""
    return bool(_LIST.fullmatch(_skeleton(text)))


def _skeleton(text: str) -> str:
    return _NUMBER.sub("N", _HARMLESS.sub(" ", undecorated(text)))
