"""How near two numbers must be within what math-verify compares: it rounds to six decimals, so that all tiny numbers are one."""

from __future__ import annotations

from typing import Any

from mentor_pl.rewards.numbers import tolerance_of

_DIGITS = 40


def agree(gold: list[Any], answer: list[Any], verdict: bool) -> bool:
    """Return math-verify's verdict, corrected where both are numbers, or lists, sets, intervals or matrices of them.

    Args:
        gold: What `math_verify.parse` made of the right answer: objects of sympy, and text.
        answer: Of the student's.
        verdict: What `math_verify.verify` says of the two.
    """
    if not gold or not answer:
        return verdict
    pairs = _pairs(gold[0], answer[0])
    if not verdict:  # only two numbers as such: in lists it may be the order that is wrong
        return len(pairs) == 1 and pairs[0][0] is gold[0] and _inexact(*pairs[0]) and _near(*pairs[0], relative=True)
    return all(_near(a, b) for a, b in pairs)


def _pairs(a: Any, b: Any) -> list[tuple[Any, Any]]:
    """Return the numbers of two objects that are compared with each other."""
    if _is_number(a) and _is_number(b):
        return [(a, b)]
    parts = _parts(a), _parts(b)
    if not parts[0] or len(parts[0]) != len(parts[1]):
        return []
    return [pair for one, other in zip(*parts, strict=True) for pair in _pairs(one, other)]


def _parts(value: Any) -> list[Any]:
    kind = type(value).__name__
    if "Matrix" in kind and hasattr(value, "flat"):
        return list(value.flat())
    if kind == "Interval":
        return [value.start, value.end]
    if kind.endswith("FiniteSet"):
        members = list(value.args)
        return sorted(members, key=lambda m: m.evalf(_DIGITS)) if all(map(_is_number, members)) else []
    if kind == "Tuple":
        return list(value.args)
    if kind in ("Equality", "Eq") and getattr(value.lhs, "is_Symbol", False):
        return [value.rhs]
    return []


def _is_number(value: Any) -> bool:
    return bool(getattr(value, "is_number", False)) and value.is_extended_real is True and bool(value.is_finite)


def _inexact(a: Any, b: Any) -> bool:
    return any(atom.is_Float for value in (a, b) for atom in value.atoms())


def _near(a: Any, b: Any, relative: bool = False) -> bool:
    x, y = a.doit().evalf(_DIGITS), b.doit().evalf(_DIGITS)
    if x == y:
        return True
    if not (x.is_Float and y.is_Float):
        return not relative
    magnitude = max(abs(x), abs(y))
    if not _inexact(a, b):
        return bool(abs(x - y) <= magnitude / 10 ** (_DIGITS - 10))
    return bool(abs(x - y) <= tolerance_of(magnitude, whole=bool(a.is_Integer or b.is_Integer)))
