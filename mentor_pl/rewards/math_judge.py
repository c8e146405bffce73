"""Symbolic equality of two answers by math-verify, from any thread and with a time limit that holds.

math-verify limits time by `signal.alarm`: that works in the main thread only, cancels other
people's alarms, and does not interrupt a single long operation. Here it runs in worker processes
that a watchdog ends. Worker processes are as many as threads ask at once.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import subprocess
import sys
from collections import deque

from mentor_pl.errors import RewardError
from mentor_pl.rewards.calculations import (
    in_another_base,
    is_closed_form,
    is_name,
    is_worked,
    last_side,
    only_numbers,
    sides,
)
from mentor_pl.rewards.numbers import equal_numbers, read_number
from mentor_pl.rewards.plain_text import equal_as_text, is_code, is_text, plain, undecorated

_log = logging.getLogger(__name__)
_COUNTED = re.compile(
    r"(.*\S)\s+(?!squared|cubed|hal|third|quarter|fifth|tenth|hundred|thousand|million|billion|trillion|dozen|factorial)[a-z]{3,}"
)
_EXPONENT = re.compile(r"(\d\.?)[eE]([-+]?\d+)(?![\w.])")
MAX_CHARS = 2000
"""Answers longer than this are only compared as text."""


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mentor_pl.rewards.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        if self._read() != "ready":
            code = self._process.wait()
            raise RewardError(
                f"the math judge's worker process ended with code {code} before it was ready; what it wrote to stderr says "
                "why. Is math-verify installed in this environment?"
            )

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def ask(self, question: str) -> str:
        """Return the worker's line, or "" where the question ended it.

        Raises:
            BrokenPipeError: It had ended before.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        line = self._read()
        if not line:
            self._process.wait()
        return line


_idle: deque[_Worker] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # two processes must not talk through one pipe


@functools.lru_cache(maxsize=65536)
def equal_in_mathematics(answer: str, gold: str, timeout_s: float = 5.0, calculations: bool = False) -> bool:
    r"""Say whether two answers, in LaTeX or plain text without `\boxed`, are one mathematical object.

    Where the right answer is text (see `plain_text.is_text`), texts are compared; where both are
    numbers, `numbers.equal_numbers` decides; all else is asked of math-verify, with the same
    tolerance.

    Args:
        answer: The student's.
        gold: The reference's.
        timeout_s: Seconds after which the answer counts as wrong.
        calculations: Whether an answer that is still to be worked out, 17 * 23 where 391 is right,
            counts as right.

    Raises:
        RewardError: The worker process cannot be started.
    """
    answer, gold = answer.strip(), gold.strip()
    if not answer or not gold:
        return False
    if answer == gold:
        return True
    if len(answer) > MAX_CHARS or len(gold) > MAX_CHARS:
        return False
    if read_number(gold) is None and is_text(gold):
        return equal_as_text(answer, gold) or _is_the_count(answer, gold)
    return (read_number(answer) is not None or not is_code(answer)) and _equal_objects(
        answer, gold, timeout_s, calculations
    )


def _is_the_count(answer: str, gold: str) -> bool:
    """Say whether the right answer counts things, 7 apples, and the student's is that number without a word."""
    counted = _COUNTED.fullmatch(plain(gold))
    wanted, given = read_number(counted[1]) if counted else None, read_number(answer)
    return bool(wanted and given and not given.unit and equal_numbers(given, wanted))


def _equal_objects(answer: str, gold: str, timeout_s: float, calculations: bool) -> bool:
    if in_another_base(answer, gold):
        return False
    wanted = read_number(last_side(gold))
    if wanted is None:
        if not calculations and only_numbers(gold) and not is_worked(answer):
            return False
        return _asked(answer, gold, timeout_s)
    *others, last = sides(answer)
    if any(is_name(side) and is_name(name) and side != name for side in others for name in sides(gold)[:-1]):
        return False
    given = read_number(last)
    if given is None:
        closed_form = not wanted.exact and is_closed_form(last)  # more exact than the decimal that is right
        right = (calculations or is_worked(last) or closed_form) and _asked(last, gold, timeout_s)
    else:
        right = equal_numbers(given, wanted)
    return right and all(
        is_name(side) or _equal_objects(side, last_side(gold), timeout_s, calculations=True) for side in others
    )


def _asked(answer: str, gold: str, timeout_s: float) -> bool:
    # math-verify reads 2e-8 as 2 times Euler's number, less 8
    question = [_EXPONENT.sub(r"\1 \\times 10^{\2}", undecorated(text)) for text in (answer, gold)]
    verdict = _ask(json.dumps([*question, timeout_s]))
    if not verdict:
        _log.warning("%.80r could not be compared with %.80r within %g s; it counts as wrong", answer, gold, timeout_s)
    return verdict == "true"


def _ask(question: str) -> str:
    while _idle:
        try:
            worker = _idle.pop()
            verdict = worker.ask(question)
        except (IndexError, BrokenPipeError):  # another thread was faster, or the worker was killed while idle
            continue
        break
    else:
        worker = _Worker()
        verdict = worker.ask(question)
    if verdict:
        _idle.append(worker)
    return verdict
