"""The twelve operations that problems are chains of, the tool calls that carry each out, and the numbers that fit them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mentor_pl.tools import arithmetic

Arguments = dict[str, Any]
ArgumentBuilder = Callable[[float, tuple[int, ...]], Arguments]


def _value_and_operand(value: float, operands: tuple[int, ...]) -> Arguments:
    return {"a": value, "b": operands[0]}


def _value_only(value: float, operands: tuple[int, ...]) -> Arguments:
    return {"x": value}


def _to_whole(value: float, operands: tuple[int, ...]) -> Arguments:
    return {"x": value, "decimals": 0}


def _squared(value: float, operands: tuple[int, ...]) -> Arguments:
    return {"base": value, "exponent": 2}


def _all_together(value: float, operands: tuple[int, ...]) -> Arguments:
    return {"numbers": [value, *operands]}


OPERATIONS: dict[str, tuple[tuple[str, ArgumentBuilder], ...]] = {
    "add": (("add", _value_and_operand),),
    "subtract": (("subtract", _value_and_operand),),
    "multiply": (("multiply", _value_and_operand),),
    "divide": (("divide", _value_and_operand),),
    "remainder": (("modulo", _value_and_operand),),
    "full_groups": (("divide", _value_and_operand), ("floor", _value_only)),
    "groups_needed": (("divide", _value_and_operand), ("ceil", _value_only)),
    "rounded_share": (("divide", _value_and_operand), ("round_number", _to_whole)),
    "sum": (("sum_numbers", _all_together),),
    "square": (("power", _squared),),
    "gap": (("subtract", _value_and_operand), ("abs_value", _value_only)),
    "side": (("sqrt", _value_only),),
}
"""Operation to its tool calls, in order; each call works on the result of the one before."""

WITH_SHORTCUT = frozenset({"remainder", "full_groups", "groups_needed", "rounded_share", "gap"})
"""Operations whose numbers may be such that a cheaper way also ends at the right answer: a division that comes out even needs no
rounding, a positive difference no absolute value, a remainder after one group only a subtraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tool call of a right solution.

    Attributes:
        tool: Name of the tool.
        arguments: Its arguments.
        result: What the tool returns.
    """

    tool: str
    arguments: Mapping[str, Any]
    result: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How big the numbers of a problem are; each range is inclusive.

    Attributes:
        start: The number that a problem starts with.
        root: Side of the square that a problem starts with, where its first operation takes the
            side.
        base: Start where the first operation squares.
        operand: What is added, taken away or compared with.
        factor: What is multiplied or divided by.
        group_sizes: How many fit into a bag; chosen so that results have few decimals.
        largest_base: Nothing bigger is squared.
        largest_answer: Problems with bigger answers are not used.
    """

    start: tuple[int, int]
    root: tuple[int, int]
    base: tuple[int, int]
    operand: tuple[int, int]
    factor: tuple[int, int]
    group_sizes: tuple[int, ...]
    largest_base: int
    largest_answer: int


SMALL = Size(
    start=(2, 30),
    root=(2, 9),
    base=(2, 12),
    operand=(2, 20),
    factor=(2, 9),
    group_sizes=(2, 4, 5, 8),
    largest_base=15,
    largest_answer=400,
)
LARGE = Size(
    start=(100, 999),
    root=(10, 31),
    base=(11, 40),
    operand=(101, 899),
    factor=(11, 40),
    group_sizes=(4, 5, 8, 16, 20, 25, 40),
    largest_base=60,
    largest_answer=999_999,
)


def carry_out(operation: str, value: float, operands: tuple[int, ...]) -> tuple[Step, ...]:
    """Run an operation's tool calls on a value.

    Args:
        operation: A key of `OPERATIONS`.
        value: What the chain has come to so far.
        operands: The operation's own numbers, as the text names them.

    Returns:
        The calls with their results; the last result is the new value.
    """
    steps: list[Step] = []
    for tool, arguments_for in OPERATIONS[operation]:
        arguments = arguments_for(value, operands)
        value = getattr(arithmetic, tool)(**arguments)
        steps.append(Step(tool=tool, arguments=arguments, result=value))
    return tuple(steps)


def draw_start(rng: random.Random, first_operation: str, size: Size) -> int:
    """Draw the number that a problem starts with, such that its first operation often fits."""
    if first_operation == "side":
        return rng.randint(*size.root) ** 2
    return rng.randint(*(size.base if first_operation == "square" else size.start))


def draw_operands(
    rng: random.Random, operation: str, value: int, size: Size, shortcut: bool | None
) -> tuple[int, ...] | None:
    """Draw an operation's numbers.

    Args:
        rng: Source of chance.
        operation: A key of `OPERATIONS`.
        value: What the chain has come to so far.
        size: How big the numbers are.
        shortcut: For the operations `WITH_SHORTCUT`: True asks for numbers with which the shortcut
            ends at the right answer, False for numbers with which it does not, None for any.

    Returns:
        The numbers, or None where none fit this value.
    """
    low, high = size.operand
    if operation == "sum":
        return tuple(rng.randint(low, high) for _ in range(3))
    if operation == "square":
        return () if value <= size.largest_base else None
    if operation == "side":
        return () if value >= 4 and math.isqrt(value) ** 2 == value else None
    candidates = _candidates(operation, value, size, shortcut)
    return (rng.choice(candidates),) if candidates else None


def _candidates(operation: str, value: int, size: Size, shortcut: bool | None) -> list[int]:
    low, high = size.operand
    smallest_factor, largest_factor = size.factor
    if operation == "add":
        return list(range(low, high + 1))
    if operation == "subtract":
        return list(range(low, min(high, value - 1) + 1))
    if operation == "multiply":
        return list(range(smallest_factor, largest_factor + 1))
    if operation == "divide":
        return [n for n in range(2, largest_factor + 1) if value % n == 0]
    if operation == "remainder":
        if shortcut is None:
            return list(range(smallest_factor, min(largest_factor, value - 1) + 1))
        return [n for n in range(2, min(high, value) + 1) if (value < 2 * n) == shortcut]
    if operation == "gap":
        if shortcut is None:
            return [n for n in range(low, high + 1) if n != value]
        return list(range(1, value)) if shortcut else list(range(value + 1, value + high + 1))
    groups = [n for n in size.group_sizes if value > n and (shortcut is None or (value % n == 0) == shortcut)]
    if operation == "rounded_share":  # a half has two nearest whole numbers
        return [n for n in groups if 2 * (value % n) != n]
    return groups
