"""500 outputs, right and wrong in many ways: what the package's own evaluation says of them, we say."""

from __future__ import annotations

import copy
import importlib
import random
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from mentor_pl.messages import ToolCall

pytest.importorskip("bfcl_eval")

from mentor_pl_bfcl import package  # noqa: E402
from mentor_pl_bfcl.cases import SINGLE_TURN, Case, cases_of  # noqa: E402
from mentor_pl_bfcl.single_turn import calls_are_right  # noqa: E402

Calls = list[dict[str, dict[str, Any]]]

# What the package's runner imports and our environment does not have. None of it takes part in a verdict.
FOREIGN = (
    "dotenv",
    "overrides",
    "pandas",
    "tenacity",
    "tree_sitter",
    "tree_sitter_java",
    "tree_sitter_javascript",
    "tqdm",
)


class Handler:
    """A model whose output is read as the handlers of function-calling models read it: a list of {name: arguments}."""

    def decode_ast(self, result: Any, language: Any, has_tool_call_tag: bool) -> Any:
        if not isinstance(result, list):
            raise ValueError("no calls")
        return result


@pytest.fixture(scope="module")
def runner() -> Iterator[Any]:
    """The package's `eval_runner`, with stand-ins for what it imports and never uses here."""
    before = dict(sys.modules)
    for name in FOREIGN:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = MagicMock()
    with package._without_model_handlers():
        module = importlib.import_module("bfcl_eval.eval_checker.eval_runner")
    yield module
    for name in set(sys.modules) - set(before):
        if name.startswith("bfcl_eval") or name in FOREIGN:
            del sys.modules[name]


def official(runner: Any, case: Case, output: Any) -> bool:
    entry, name = copy.deepcopy(dict(case.row)), package.MODEL_NAME
    output = copy.deepcopy(output)
    if "relevance" in case.category:
        verdict = runner._evaluate_single_relevance_entry(Handler(), case.case_id, output, entry, name, case.category)
        return verdict["valid"]
    language = {"simple_java": "JAVA", "simple_javascript": "JAVASCRIPT"}.get(case.category, "PYTHON")
    verdict = runner._evaluate_single_ast_entry(
        Handler(), case.case_id, output, copy.deepcopy(case.truth), entry, name, case.category,
        getattr(runner.Language, language), runner.ReturnFormat.PYTHON,
    )  # fmt: skip
    return verdict["valid"]


def truth(case: Case, pick: random.Random) -> Calls:
    """Calls that the case accepts: of the values of each argument any, of those that may be left out some."""
    calls: Calls = []
    for expected in case.truth:
        ((name, accepted),) = expected.items()
        arguments: dict[str, Any] = {}
        for key, values in accepted.items():
            choices = [value for value in values if value != ""]
            if choices and not ("" in values and pick.random() < 0.5):
                arguments[key] = _plain(pick.choice(choices))
        calls.append({name: arguments})
    if not calls:
        calls = [{case.row["function"][0]["name"]: {}}] if "irrelevance" not in case.category else []
    return calls


def _plain(value: Any) -> Any:
    """Take one of the accepted values of each key of an accepted object."""
    if isinstance(value, dict):
        return {
            key: _plain(next((v for v in item if v != ""), "")) if isinstance(item, list) else item
            for key, item in value.items()
            if not (isinstance(item, list) and item == [""])
        }
    return [_plain(item) for item in value] if isinstance(value, list) else value


def spoil(how: str, calls: Calls, case: Case, pick: random.Random) -> Any:
    calls = copy.deepcopy(calls)
    if how == "right" or (not calls and how not in ("extra call", "no list")):
        return calls
    if how == "extra call":
        return [*calls, copy.deepcopy(calls[0]) if calls else {case.row["function"][0]["name"]: {}}]
    if how == "no call":
        return []
    if how == "no list":
        return "I cannot do that."
    if how == "reversed":
        return calls[::-1]
    index = pick.randrange(len(calls))
    ((name, arguments),) = calls[index].items()
    if how == "wrong name":
        calls[index] = {f"{name}_x": arguments}
    elif how == "unknown argument":
        arguments["no_such_argument"] = 1
    elif how == "lost call":
        del calls[index]
    elif arguments:
        key = pick.choice(list(arguments))
        if how == "missing argument":
            del arguments[key]
        elif how == "other case":
            arguments[key] = arguments[key].upper() + "." if isinstance(arguments[key], str) else arguments[key]
        elif how == "other type":
            arguments[key] = str(arguments[key]) if not isinstance(arguments[key], str) else [arguments[key]]
        elif how == "whole number":
            arguments[key] = int(arguments[key]) if isinstance(arguments[key], float) else arguments[key]
        else:
            arguments[key] = {str: "something else", int: 987654, float: 9876.5, bool: None}.get(
                type(arguments[key]), []
            )
    return calls


WAYS = ("right", "right", "right", "wrong name", "wrong value", "missing argument", "unknown argument", "extra call")
WAYS += ("lost call", "reversed", "no call", "no list", "other case", "other type", "whole number")


def test_500_outputs_are_judged_as_the_package_judges_them(runner: Any) -> None:
    pick = random.Random(0)
    tried: Counter[tuple[str, bool]] = Counter()
    for number in range(500):
        category, how = SINGLE_TURN[number % len(SINGLE_TURN)], WAYS[number % len(WAYS)]
        case = pick.choice(list(cases_of(category).values()))
        output = spoil(how, truth(case, pick), case, pick)
        theirs = official(runner, case, output)
        assert calls_are_right(case, as_calls(output)) == theirs, (case.case_id, how, output)
        tried[how, theirs] += 1
    assert tried["right", True] > 80
    assert tried["right", False] <= 15  # cases whose accepted values contradict their own schema
    assert all(tried[how, False] for how in set(WAYS) - {"right", "whole number", "reversed", "other case"}), tried


def as_calls(output: Any) -> list[ToolCall]:
    if not isinstance(output, list):  # what our chat format says of text that is no call: there is none
        return []
    return [
        ToolCall(call_id=str(index), name=name, arguments=arguments)
        for index, call in enumerate(output)
        for name, arguments in call.items()
    ]
