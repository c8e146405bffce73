r"""The one reader of numbers: as people, tools, LaTeX and spreadsheets write them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mentor_pl.rewards.plain_text import undecorated

MAX_EXPONENT = 400
"""Powers of ten beyond this are not read: they would fill the memory."""

_CURRENCY = r"[$€£¥₹₩]|US\$|USD|EUR|GBP|JPY|CHF"
_INTEGER = r"\d{1,3}(?:(?:,|\{,\}|\\,|\\ |'|’|\x20|\u202f)\d{3})+|\d+"
_DECIMAL = rf"(?:(?:{_INTEGER})(?:\.\d*)?|\.\d+)"
_POWER = r"10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))"
_FRACTION_COMMAND = r"\\[dtc]?frac\s*(?:\{\s*([-+]?[^{}]+?)\s*\}|(\d))\s*(?:\{\s*([^{}]+?)\s*\}|(\d))"

_PLAIN = re.compile(rf"({_DECIMAL})(?:[eE]([-+]?\d+))?")
_SCIENTIFIC = re.compile(rf"(?:({_DECIMAL})\s*(?:\\times|\\cdot|×|·|\*|x)\s*)?{_POWER}")
_SLASH = re.compile(rf"({_DECIMAL})\s*/\s*({_DECIMAL})")
_FRAC = re.compile(rf"(\d+\s*)?{_FRACTION_COMMAND}")
_MIXED = re.compile(r"(\d+)\s+(\d+)\s*/\s*(\d+)")
_GROUP_MARKS = re.compile(r",|\{,\}|\\,|\\ |'|’|\x20|\u202f")
_SIGN = re.compile(r"([-+]?)\s*")
_BEFORE = re.compile(rf"(?:\\?({_CURRENCY}))\s*")
_TEXT_UNIT = re.compile(r"\s*\\(?:text|textrm|mathrm|mbox)\s*\{([^{}]*)\}(\s*\^\s*\{?[23]\}?)?")
_DEGREE = re.compile(r"\s*(?:°|\^\s*\{?\s*\\circ\s*\}?|\\degree)\s*(?:\\(?:text|mathrm)\s*\{)?\s*([CFK]?)\s*\}?")
_PERCENT = re.compile(r"\s*\\?%|\s+percent")
_WORD = re.compile(r"\s*([A-Za-zµ²³/$€£¥₹₩]+(?:\^\{?[23]\}?)?)")

_UNIT_NAMES = {
    "cm": "cm centimeter centimetre", "mm": "mm millimeter millimetre", "m": "m meter metre", "km": "km kilometer kilometre",
    "g": "g gram", "kg": "kg kilogram", "l": "l liter litre", "ml": "ml milliliter millilitre", "in": "in inch inches",
    "ft": "ft foot feet", "mi": "mi mile", "lb": "lb lbs pound", "s": "s sec second", "min": "min minute", "h": "h hr hour",
    "°": "degree", "$": "$ us$ usd dollar", "€": "€ eur euro", "£": "£ gbp", "¥": "¥ jpy yen", "%": "percent",
}  # fmt: skip
_UNITS = {name: unit for unit, names in _UNIT_NAMES.items() for name in names.split()}
_BARE_UNITS = frozenset(name for name in _UNITS if len(name) > 1 or not name.isalpha()) | {
    f"{name}s" for name in _UNITS if len(name) > 3
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number that was read.

    Attributes:
        value: Its exact value, as written.
        exact: False for a decimal, which may have been rounded; True for whole numbers and
            fractions.
        unit: "%", "°", a currency or what stood behind it; "" where it has none.
    """

    value: Fraction
    exact: bool
    unit: str = ""


def read_number(text: str) -> Number | None:
    r"""Read a number; None where a text is none, or not finite.

    Read are decorations (`**42**`, `$42$`, `42.`), signs, thousands separators (1,234 and 1 234 and
    `1{,}234`), exponents (2.5e+06, `2.5 \times 10^6`), fractions (3/4, `\frac{3}{4}`, 1 1/2, ½),
    currencies, degrees, million and the like, and units. A percentage is read as the number before
    its sign: 50% is 50. Not read are 1,2 (a list, or a decimal comma) and codes such as 00420.

    >>> read_number("1 1/2").value
    Fraction(3, 2)
    """
    text = undecorated(text).replace("\\displaystyle", "").replace("\\!", "").strip()
    sign, text = _take_sign(text)
    unit = ""
    if found := _BEFORE.match(text):
        unit, text = _unit_name(found[1]), text[found.end() :]
        if not sign:
            sign, text = _take_sign(text)
    read = _magnitude(text)
    if read is None:
        return None
    value, exact, rest = read
    scale = re.match(r"\s*(thousand|million|billion|trillion|dozen)\b", rest)
    if scale:
        value, rest = value * _SCALES[scale[1]], rest[scale.end() :]
    behind = _unit_behind(rest)
    if behind is None or (unit and behind and behind != unit):
        return None
    return Number(value=-value if sign == "-" else value, exact=exact, unit=unit or behind)


def _take_sign(text: str) -> tuple[str, str]:
    found = _SIGN.match(text)
    assert found is not None
    return found[1], text[found.end() :]


def _magnitude(text: str) -> tuple[Fraction, bool, str] | None:
    """Return the number that a text without sign begins with, whether it is exact, and what follows."""
    if found := _MIXED.match(text):
        whole, top, bottom = int(found[1]), int(found[2]), int(found[3])
        return None if not bottom else (whole + Fraction(top, bottom), True, text[found.end() :])
    if found := _FRAC.match(text):
        top, bottom = (_signed(found[2] or found[3]), _signed(found[4] or found[5]))
        if top is None or not bottom or (found[1] and top < 0):
            return None
        return int(found[1] or 0) + top / bottom, True, text[found.end() :]
    if found := _SLASH.match(text):
        top, bottom = _decimal(found[1]), _decimal(found[2])
        return None if top is None or not bottom else (top / bottom, True, text[found.end() :])
    if found := _SCIENTIFIC.match(text):
        value = _decimal(found[1] or "1", found[2] or found[3])
        return None if value is None else (value, False, text[found.end() :])
    if found := _PLAIN.match(text):
        value = _decimal(found[1], found[2] or "0")
        exact = "." not in found[1] and not found[2]
        return None if value is None else (value, exact or value.denominator == 1, text[found.end() :])
    return None


def _signed(text: str) -> Fraction | None:
    sign, text = _take_sign(text)
    found = _PLAIN.fullmatch(text.strip())
    value = _decimal(found[1], found[2] or "0") if found else None
    return -value if value is not None and sign == "-" else value


def _decimal(digits: str, exponent: str = "0") -> Fraction | None:
    if re.match(r"0\d{3}", digits) or len(exponent) > 6 or abs(int(exponent)) > MAX_EXPONENT:
        return None
    return Fraction(_GROUP_MARKS.sub("", digits).rstrip(".") or "0") * Fraction(10) ** int(exponent)


def _unit_behind(text: str) -> str | None:
    """Return the unit that follows a number; None where something else does."""
    if not text.strip():
        return ""
    if found := _DEGREE.fullmatch(text):
        return f"°{found[1]}"
    if _PERCENT.fullmatch(text):
        return "%"
    if found := _TEXT_UNIT.fullmatch(text):
        return _unit_name(found[1] + re.sub(r"[\s{}]", "", found[2] or ""))
    found = _WORD.fullmatch(text)
    return _unit_name(found[1]) if found and found[1].partition("^")[0].casefold() in _BARE_UNITS else None


def _unit_name(text: str) -> str:
    name = text.replace("~", " ").strip().rstrip(".").casefold()
    return _UNITS.get(name) or _UNITS.get(name.removesuffix("s")) or name


def equal_numbers(a: Number, b: Number) -> bool:
    """Say whether two numbers are one: fractions exactly, decimals within `tolerance_of` the larger.

    Two that name different units are different; a unit that only one names is passed over. Where
    only one is a percentage, its share counts too: 50% is 50 and 0.5.
    """
    if a.unit and b.unit and a.unit != b.unit:
        return False
    if (a.unit == "%") != (b.unit == "%"):
        return any(_near(a.value / x, b.value / y) for x, y in ((1, 1), (100, 1) if a.unit == "%" else (1, 100)))
    return a.value == b.value if a.exact and b.exact else _near(a.value, b.value)


def _near(a: Fraction, b: Fraction) -> bool:
    whole = a.denominator == 1 or b.denominator == 1
    return abs(a - b) <= tolerance_of(max(abs(a), abs(b)), whole=whole)


def tolerance_of(magnitude: Any, *, whole: bool) -> Any:
    """Return by how much two decimals of this magnitude, of whatever type of number, may differ.

    A millionth, of the value where that is below 1. Where one of the two is a whole number, which
    nobody rounds, and for large numbers: what lies beyond the twelve digits that floating point
    surely keeps.
    """
    noise = magnitude / 10**12
    return noise if whole else max(min(magnitude, 1) / 10**6, noise)


def within(a: Number, b: Number, tolerance: float) -> bool:
    """Say whether two numbers agree within a relative tolerance of one's own; only 0 is near 0."""
    if a.unit and b.unit and a.unit != b.unit:
        return False
    if not math.isfinite(tolerance):
        return True
    return abs(a.value - b.value) <= Fraction(tolerance) * max(abs(a.value), abs(b.value))
