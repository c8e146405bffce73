"""Symbolic equality of two answers by math-verify, from any thread and with a time limit that holds.

math-verify limits time by `signal.alarm`: that works in the main thread only, cancels other people's alarms, and does not interrupt a
single long operation. Here it runs in worker processes that a watchdog ends. Worker processes are as many as threads ask at once.
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
from decimal import Decimal

from mentor_pl.errors import RewardError

_log = logging.getLogger(__name__)
_PLAIN_NUMBER = re.compile(r"[-+]?\d{1,18}(?:\.\d{1,18})?")
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
def equal_in_mathematics(answer: str, gold: str, timeout_s: float = 5.0) -> bool:
    r"""Say whether two answers, in LaTeX or plain text without `\boxed`, are one mathematical object.

    Args:
        answer: The student's.
        gold: The reference's.
        timeout_s: Seconds after which the answer counts as wrong.

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
    if _PLAIN_NUMBER.fullmatch(answer) and _PLAIN_NUMBER.fullmatch(gold):
        if Decimal(answer) == Decimal(gold):
            return True
        if "." not in answer + gold:
            return False
    verdict = _ask(json.dumps([answer, gold, timeout_s]))
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
