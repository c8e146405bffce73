"""Whether the calls of one turn are right, by the package's own checker of abstract syntax trees."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from mentor_pl.messages import ToolCall
from mentor_pl_bfcl.cases import Case
from mentor_pl_bfcl.package import MODEL_NAME, checker


def calls_are_right(case: Case, calls: Sequence[ToolCall]) -> bool:
    """Check the calls of a single-turn case.

    In the irrelevance categories no call is right, in `live_relevance` any call is. A malformed
    call makes the whole turn unreadable, as the package has it: that is no call there, and wrong
    elsewhere.

    Args:
        case: The case.
        calls: What the student wrote, in order.
    """
    readable = all(call.parse_error is None for call in calls)
    if "relevance" in case.category:  # irrelevance too
        called = readable and bool(calls)
        return called != ("irrelevance" in case.category)
    if not readable:
        return False
    written = [{call.name: dict(call.arguments)} for call in calls]
    module = checker("ast_eval.ast_checker")
    # The checker writes into what it is given.
    functions, truth = copy.deepcopy(case.row["function"]), copy.deepcopy(case.truth)
    try:
        verdict = module.ast_checker(functions, written, truth, _language(module, case), case.category, MODEL_NAME)
    except (TypeError, AttributeError, KeyError, ValueError):  # values of a kind that the checker did not foresee
        return False
    return bool(verdict["valid"])


def _language(module: Any, case: Case) -> Any:
    languages = module.Language
    if case.category == "simple_java":
        return languages.JAVA
    return languages.JAVASCRIPT if case.category == "simple_javascript" else languages.PYTHON
