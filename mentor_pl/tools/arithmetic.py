"""The twelve arithmetic tools of MENTOR (arXiv:2510.18383), as plain typed functions.

Whole results are integers, others are rounded to ten decimals, so that what a student reads is
short and exact.
"""

from __future__ import annotations

import math

Number = int | float

_MAX_DIGITS = 30


def _tidy(value: Number) -> Number:
    if isinstance(value, int):
        if abs(value) >= 10**_MAX_DIGITS:
            raise ValueError(f"the result has more than {_MAX_DIGITS} digits")
        return value
    if not math.isfinite(value):
        raise ValueError("the result is not a finite number")
    value = round(value, 10)
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def add(a: Number, b: Number) -> Number:
    """Return a + b.

    Args:
        a: First summand.
        b: Second summand.
    """
    return _tidy(a + b)


def subtract(a: Number, b: Number) -> Number:
    """Return a - b.

    Args:
        a: Number to subtract from.
        b: Number to subtract.
    """
    return _tidy(a - b)


def multiply(a: Number, b: Number) -> Number:
    """Return a times b.

    Args:
        a: First factor.
        b: Second factor.
    """
    return _tidy(a * b)


def divide(a: Number, b: Number) -> Number:
    """Return a divided by b.

    Args:
        a: Dividend.
        b: Divisor, not zero.
    """
    return _tidy(a / b)


def sum_numbers(numbers: list[Number]) -> Number:
    """Return the sum of a list of numbers.

    Args:
        numbers: The numbers to add up.
    """
    return _tidy(sum(numbers))


def floor(x: Number) -> Number:
    """Round down to the next whole number.

    Args:
        x: The number to round.
    """
    return math.floor(x)


def ceil(x: Number) -> Number:
    """Round up to the next whole number.

    Args:
        x: The number to round.
    """
    return math.ceil(x)


def round_number(x: Number, decimals: int = 0) -> Number:
    """Round to the nearest number with a given count of decimals.

    Args:
        x: The number to round.
        decimals: How many decimals to keep.
    """
    return _tidy(round(x, decimals))


def power(base: Number, exponent: Number) -> Number:
    """Return base raised to exponent.

    Args:
        base: The base.
        exponent: The exponent, between -64 and 64.
    """
    # Python integers grow without bound: 9**9**9 would never come back.
    if abs(exponent) > 64 or abs(base) > 1e12:
        raise ValueError("base or exponent is too large")
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError("the result is not a real number")
    return _tidy(result)


def sqrt(x: Number) -> Number:
    """Return the square root.

    Args:
        x: A number that is not negative.
    """
    return _tidy(math.sqrt(x))


def abs_value(x: Number) -> Number:
    """Return the absolute value.

    Args:
        x: Any number.
    """
    return abs(x)


def modulo(a: Number, b: Number) -> Number:
    """Return the remainder of a divided by b.

    Args:
        a: Dividend.
        b: Divisor, not zero.
    """
    return _tidy(a % b)


__all__ = [
    "abs_value",
    "add",
    "ceil",
    "divide",
    "floor",
    "modulo",
    "multiply",
    "power",
    "round_number",
    "sqrt",
    "subtract",
    "sum_numbers",
]
