"""A written calculation such as `3*(4+2)/5` as executed calls of the twelve arithmetic tools."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field
from typing import Any

from mentor_pl.tools import arithmetic

Number = int | float

_TWO_NUMBERS = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Mod: "modulo",
}


class CannotConvertError(ValueError):
    """Why a calculation cannot be expressed, in few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One executed call."""

    name: str
    arguments: dict[str, Any]
    result: Number


def close(a: Number, b: Number) -> bool:
    """True where two results are the same up to rounding (relative 1e-6)."""
    return abs(a - b) <= 1e-6 * max(1, abs(b))


def plain_number(text: str) -> Number:
    """Read a number, whole ones as int.

    Raises:
        CannotConvertError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise CannotConvertError("a result is not a number") from None
    if not math.isfinite(value):
        raise CannotConvertError("a result is not a number")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


@dataclass(slots=True)
class Calculation:
    """Executes calculations one after another and keeps the calls.

    Attributes:
        steps: What was called so far, in order.
    """

    steps: list[Step] = field(default_factory=list)

    def call(self, name: str, **arguments: Any) -> Number:
        """Run a tool and keep the step.

        Raises:
            CannotConvertError: The tool refused.
        """
        try:
            result = getattr(arithmetic, name)(**arguments)
        except (ArithmeticError, ValueError) as failure:
            raise CannotConvertError(f"{name} fails") from failure
        self.steps.append(Step(name=name, arguments=arguments, result=result))
        return result

    def run(self, text: str) -> Number:
        """Execute a written calculation.

        Raises:
            CannotConvertError: It is not understood, or a step of it fails.
        """
        return self._value(parse(text))

    def _value(self, node: ast.expr) -> Number:
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return plain_number(str(value))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._value(operand)
            case ast.BinOp(op=ast.Add()) if len(terms := _summands(node)) > 2:
                return self.call("sum_numbers", numbers=[self._value(term) for term in terms])
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self.call("power", base=self._value(left), exponent=self._value(right))
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                return self.call("floor", x=self.call("divide", a=self._value(left), b=self._value(right)))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _TWO_NUMBERS:
                return self.call(_TWO_NUMBERS[type(op)], a=self._value(left), b=self._value(right))
            case _:
                raise CannotConvertError("the calculation is not understood")


def parse(text: str) -> ast.expr:
    """Read a written calculation as a Python expression, which is never evaluated as such.

    Raises:
        CannotConvertError: It is none.
    """
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise CannotConvertError("the calculation is not understood") from None


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _summands(node.left) + _summands(node.right)
    return [node]
