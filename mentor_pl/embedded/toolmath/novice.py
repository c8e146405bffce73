"""An imperfect solver: what the starting student is warmed up on, so that it knows the form of everything and is mostly wrong.

It skips the tools, takes the wrong ones, makes names up, mixes numbers up, stops early and reports
something else than it found.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mentor_pl.embedded.toolmath.operations import Arguments
from mentor_pl.embedded.toolmath.problems import Part, Problem
from mentor_pl.embedded.toolmath.teachers import answer_message, tool_message
from mentor_pl.messages import Message, ToolCall
from mentor_pl.tools import arithmetic
from mentor_pl.tools.results import refused

MADE_UP = {
    "add": ("plus", "increase"),
    "subtract": ("minus", "decrease"),
    "multiply": ("times", "product"),
    "divide": ("quotient", "share"),
    "sum_numbers": ("total", "sum"),
    "floor": ("round_down", "truncate"),
    "ceil": ("round_up", "count_boxes"),
    "round_number": ("round", "nearest"),
    "power": ("square", "exp"),
    "sqrt": ("root", "side"),
    "abs_value": ("distance", "abs"),
    "modulo": ("remainder", "rest"),
}
"""Names of tools that do not exist, by the tool that would have been right."""

MIXED_UP = {
    "add": ("sum_numbers", "multiply", "subtract"),
    "subtract": ("abs_value", "add", "divide"),
    "multiply": ("add", "power"),
    "divide": ("modulo", "subtract", "multiply"),
    "sum_numbers": ("add", "multiply"),
    "floor": ("ceil", "round_number"),
    "ceil": ("floor", "round_number"),
    "round_number": ("floor", "ceil"),
    "power": ("multiply", "sqrt"),
    "sqrt": ("divide", "power"),
    "abs_value": ("sqrt", "floor"),
    "modulo": ("divide", "subtract"),
}
"""Tools taken in place of the right one; the first is the usual mistake."""

_RIGHT_TOOL = {
    "add": 0.50,
    "subtract": 0.50,
    "multiply": 0.45,
    "divide": 0.40,
    "remainder": 0.35,
    "full_groups": 0.35,
    "groups_needed": 0.35,
    "rounded_share": 0.35,
    "sum": 0.40,
    "square": 0.35,
    "gap": 0.35,
    "side": 0.40,
}

_RUNNING_VALUE = ("a", "x", "base")  # arguments that hold what the chain has come to so far
_MAX_RESULT_CHARS = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often a novice does what; all are probabilities.

    Attributes:
        answers_at_once: Says the answer without any tool.
        right_tool: Takes the right tools for an operation, by operation.
        makes_names_up: Names a tool that does not exist, where it does not take the right one.
        usual_mistake: Takes the first of `MIXED_UP`, where it takes a wrong tool that exists.
        stops_halfway: Leaves out the second call of an operation, where it does not take the right
            tools.
        stops_early: Ends before each further operation.
        wrong_numbers: Puts other numbers into a call.
        tries_again: Makes the right call after a failed one.
        wrong_report: Ends with another number than it found.
    """

    answers_at_once: float = 0.15
    right_tool: Mapping[str, float] = field(default_factory=lambda: _RIGHT_TOOL)
    makes_names_up: float = 0.12
    usual_mistake: float = 0.75
    stops_halfway: float = 0.6
    stops_early: float = 0.3
    wrong_numbers: float = 0.1
    tries_again: float = 0.3
    wrong_report: float = 0.1


def run_tool(call: ToolCall) -> tuple[str, float | None]:
    """Run one of the twelve tools in this process; a worker process would take a hundred times longer for what is always harmless here.

    Returns:
        What a `ToolBox` would show the student, and the result (None where the call failed).
    """
    refusal = refused(call, arithmetic.__all__)
    if refusal is not None:
        return refusal.content, None
    try:
        result = getattr(arithmetic, call.name)(**call.arguments)
    except (TypeError, ValueError, ArithmeticError) as failure:
        return f"Error: {call.name}: {type(failure).__name__}: {failure}", None
    return str(result), result


def solve_badly(problem: Problem, rng: random.Random, habits: Habits) -> tuple[Message, ...]:
    """Solve a problem as a novice would.

    Returns:
        Assistant and tool messages, one call at a time, ending in an answer that is wrong more
        often than not.
    """
    if rng.random() < habits.answers_at_once:
        return (answer_message(problem.answer),)
    return _Novice(problem, rng, habits).solve()


class _Novice:
    def __init__(self, problem: Problem, rng: random.Random, habits: Habits) -> None:
        self._parts = problem.parts
        self._rng = rng
        self._habits = habits
        self._messages: list[Message] = []
        self._values: list[float] = [problem.start]
        self._numbers = [int(digits) for digits in re.findall(r"\d+", problem.question)]

    def solve(self) -> tuple[Message, ...]:
        rng, habits = self._rng, self._habits
        for number, part in enumerate(self._parts):
            if number and rng.random() < habits.stops_early:
                break
            self._attempt(part)
        report = self._values[-1]
        if rng.random() < habits.wrong_report:
            report = rng.choice([*self._values[:-1], *self._numbers[:2]])
        return (*self._messages, answer_message(report))

    def _attempt(self, part: Part) -> None:
        rng, habits = self._rng, self._habits
        right = rng.random() < habits.right_tool[part.operation]
        for number, step in enumerate(part.steps):
            if number and not right and rng.random() < habits.stops_halfway:
                return
            arguments = self._own_value(step.arguments)
            if rng.random() < habits.wrong_numbers:
                arguments = self._confuse(arguments)
            tool = step.tool
            if not right and rng.random() < habits.makes_names_up:
                tool = rng.choice(MADE_UP[tool])
            elif not right:
                choices = MIXED_UP[tool]
                tool = choices[0] if rng.random() < habits.usual_mistake else rng.choice(choices)
                arguments = _fit(tool, arguments)
            if not self._call(tool, arguments) and rng.random() < habits.tries_again:
                self._call(step.tool, self._own_value(step.arguments))

    def _call(self, tool: str, arguments: Arguments) -> bool:
        call = ToolCall(call_id=f"call_{len(self._messages) // 2}", name=tool, arguments=arguments)
        content, value = run_tool(call)
        self._messages += [Message(role="assistant", tool_calls=(call,)), tool_message(call, content)]
        # Nobody goes on with a number that is this long to copy.
        if value is not None and len(content) <= _MAX_RESULT_CHARS:
            self._values.append(value)
        return value is not None

    def _own_value(self, arguments: Mapping[str, Any]) -> Arguments:
        """Put what this novice has come to in the place of the right running value."""
        value = self._values[-1]
        own: Arguments = {key: value if key in _RUNNING_VALUE else given for key, given in arguments.items()}
        if "numbers" in own:
            own["numbers"] = [value, *own["numbers"][1:]]
        return own

    def _confuse(self, arguments: Arguments) -> Arguments:
        """Take a stale value, another number of the question, swap two numbers, or leave one out."""
        rng = self._rng
        mistake = rng.choices(("stale", "other", "swapped", "left out"), (0.4, 0.3, 0.15, 0.15))[0]
        if mistake == "stale":
            start = self._values[0]
            stale = start if self._values[-1] != start else rng.choice(self._numbers)
            return {key: stale if key in _RUNNING_VALUE else given for key, given in arguments.items()}
        if mistake == "other" and "b" in arguments:
            return {**arguments, "b": rng.choice(self._numbers)}
        if mistake == "swapped" and "b" in arguments:
            return {"a": arguments["b"], "b": arguments["a"]}
        if mistake == "left out" and "numbers" in arguments:
            return {"numbers": arguments["numbers"][:-1]}
        if mistake == "left out" and "x" in arguments:
            return {**arguments, "x": rng.choice(self._numbers)}
        return arguments


def _fit(tool: str, arguments: Arguments) -> Arguments:
    """Give a wrongly chosen tool the numbers at hand under its own argument names."""
    numbers = arguments.get("numbers") or [given for key, given in arguments.items() if key != "decimals"]
    first, second = [*numbers, 2][:2]
    if tool == "sum_numbers":
        return {"numbers": numbers if len(numbers) > 2 else [first, second]}
    if tool == "power":
        return {"base": first, "exponent": 2}
    if tool == "round_number":
        return {"x": first, "decimals": 0}
    if tool in ("floor", "ceil", "sqrt", "abs_value"):
        return {"x": first}
    return {"a": first, "b": second}
