"""Your tools: every public function here is offered to the student.

Type hints and docstrings become the JSON schema that the student reads. A function that raises
shows the error to the student, as a tool would.
"""


def add(a: float, b: float) -> float:
    """Return a + b.

    Args:
        a: First summand.
        b: Second summand.
    """
    return _tidy(a + b)


def subtract(a: float, b: float) -> float:
    """Return a - b.

    Args:
        a: Number to subtract from.
        b: Number to subtract.
    """
    return _tidy(a - b)


def multiply(a: float, b: float) -> float:
    """Return a times b.

    Args:
        a: First factor.
        b: Second factor.
    """
    return _tidy(a * b)


def divide(a: float, b: float) -> float:
    """Return a divided by b.

    Args:
        a: Dividend.
        b: Divisor; not 0.
    """
    return _tidy(a / b)


def abs_value(x: float) -> float:
    """Return the absolute value of x.

    Args:
        x: Any number.
    """
    return _tidy(abs(x))


def _tidy(value: float) -> float:
    """Write whole numbers without a decimal point, so that the student reads short results."""
    value = round(float(value), 6)
    return int(value) if value == int(value) else value
