"""Whether the calls of a conversation are right: the package's simulators run them, its checker compares states and results."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from mentor_pl.messages import ToolCall
from mentor_pl_bfcl.cases import Case
from mentor_pl_bfcl.limits import refusal_of
from mentor_pl_bfcl.package import MODEL_NAME, checker

Steps = Sequence[Sequence[ToolCall]]
"""The calls of one turn of the user: for each message of the student, its calls."""

_numbers = itertools.count()
_one_at_a_time = threading.Lock()


def turns_are_right(case: Case, turns: Sequence[Steps]) -> bool:
    """Check a multi-turn case.

    After each turn of the user, every simulator must be in the state that the expected calls lead
    to, and every result of the expected calls must be among the student's results. A conversation
    that broke off is wrong.

    Args:
        case: The case.
        turns: What the student called, for each turn of the user.
    """
    return turns_in_python_are_right(case, [[[_python(c) for c in step] for step in turn] for turn in turns])


def turns_in_python_are_right(case: Case, turns: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Check a multi-turn case whose calls are written in Python, as the package's expected calls are."""
    if len(turns) != len(case.truth):
        return False
    written = [[list(step) for step in turn if step] for turn in turns]
    module = checker("multi_turn_eval.multi_turn_checker")
    with _one_at_a_time:  # the package keeps its simulators in a module's globals
        name = f"{MODEL_NAME}_{next(_numbers)}"
        try:
            verdict = module.multi_turn_checker(written, case.truth, dict(case.row), case.category, name)
        finally:
            _forget(name)
    return bool(verdict["valid"])


def _python(call: ToolCall) -> str:
    """Write a call in Python; one that cannot be run is written so that it fails when it is run."""
    names = [call.name, *call.arguments]
    runs = call.parse_error is None and refusal_of(call.name, call.arguments) is None
    if not runs or not all(name.isidentifier() for name in names):
        return "unreadable_call()"
    return f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.arguments.items())})"


def _forget(name: str) -> None:
    """Remove the simulators of one check, so that the next one starts from the case's first state."""
    kept = vars(checker("multi_turn_eval.multi_turn_utils"))
    for key in [key for key in kept if key.startswith(f"{name}_") and key.endswith("_instance")]:
        del kept[key]
