r"""Answers as text: what is decoration only, and which right answers are words, names or codes rather than mathematics."""

from __future__ import annotations

import re
import unicodedata

from mentor_pl.rewards.answers import closing_brace

_TEXT_COMMAND = r"\\(?:text|textbf|textit|textrm|texttt|mathrm|mathbf|mathsf|mbox|boxed|emph)\s*\{"
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT_RUN = re.compile(f"[{''.join(map(chr, _SUPERSCRIPTS))}]+")
_VULGAR = re.compile(r"(\d?)([¼-¾⅐-⅞↉])")
_DASHES = str.maketrans("‐‑‒–—−﹣－", "-" * 8)
_PAIRS = (
    *(("**", "**"), ("__", "__"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")),
    *(("`", "`"), ("*", "*"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’")),
)
_SPACES = re.compile(r"\\[ ,;:!]|\\q?quad(?![a-zA-Z])|~")

_KNOWN_WORDS = frozenset(
    "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln lg exp sqrt cbrt abs min max gcd lcm mod deg det dim "
    "ker lim sup inf frac pi tau phi psi chi eta rho mu nu xi alpha beta gamma delta epsilon theta lambda sigma omega infinity "
    "infty oo or and".split()
)
_WEB = re.compile(r"@|://|^www\.|^[#/~]|[A-Za-z]\.[A-Za-z]{2,}", re.ASCII)
_LETTERS_ONLY = re.compile(r"[A-Za-z][A-Za-z' ]*", re.ASCII)
_CODE_CHARACTERS = re.compile(r"[A-Za-z0-9]+(?:[ .,:#/_-]+[A-Za-z0-9]+)*", re.ASCII)
_CODE_SIGN = re.compile(r"[A-Za-z]\d|\d[A-Z]|[A-Z]-\d|\d-[A-Z]|\d(?:st|nd|rd|th)\b|\d [ap]m\b", re.ASCII)
_LETTER_THEN_DIGIT = re.compile(r"[A-Za-z0-9]*[A-Za-z]\d[A-Za-z0-9]*", re.ASCII)
_ABBREVIATION = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]", re.ASCII)
_GRADE = re.compile(r"[A-Za-z]{1,4}[+#-]{1,2}", re.ASCII)
_DIGIT_GROUPS = re.compile(r"\+?\(?\d+\)?(?:[ ./:-]+\(?\d+\)?)+", re.ASCII)
_CODE_NUMBER = re.compile(r"\+\d{7,}|0\d{3,}", re.ASCII)
_OPERATOR = re.compile(r"[+*^=<>/_|(]|\d[a-z]", re.ASCII)
_CHOICE = re.compile(r"\(?([A-Za-z])[).]?", re.ASCII)


def undecorated(text: str) -> str:
    r"""Take off what only decorates an answer: `**42**`, `$42$`, `\text{Paris}`, quotes, a full stop; unify its signs.

    Superscripts become powers (10⁶ is 10^{6}), ½ becomes 1/2, every dash "-".
    """
    text = _SUPERSCRIPT_RUN.sub(lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _VULGAR.sub(
        lambda found: f"{found[1]}{' ' if found[1] else ''}{unicodedata.normalize('NFKC', found[2])}", text
    )
    text = unicodedata.normalize("NFKC", text).translate(_DASHES).replace("⁄", "/").strip()
    while (inner := _unwrapped(text)) != text:
        text = inner
    return text


def _unwrapped(text: str) -> str:
    for opening, closing in _PAIRS:
        inner = text[len(opening) : len(text) - len(closing)]
        enclosed = len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)
        if enclosed and opening not in inner and closing not in inner and not inner.endswith("\\"):
            return inner.strip()
    command = re.match(rf"(?:{_TEXT_COMMAND}|\{{)", text)
    if command and closing_brace(text, command.end()) == len(text) - 1:
        return text[command.end() : -1].strip()
    if text.endswith((".", ",", ";")) and not text.endswith(("..", "\\,", "\\;")):
        return text[:-1].rstrip()
    return text


def plain(text: str) -> str:
    r"""Return an undecorated answer without `\text{}`, escapes and LaTeX's spaces; commands of mathematics stay."""
    text = _SPACES.sub(" ", undecorated(text))
    while command := re.search(_TEXT_COMMAND, text):
        end = closing_brace(text, command.end())
        end = len(text) if end is None else end
        text = f"{text[: command.start()]}{text[command.end() : end]}{text[end + 1 :]}"
    return " ".join(re.sub(r"\\([_%$&#])", r"\1", text).split())


def equal_as_text(answer: str, gold: str) -> bool:
    """Compare texts, whatever their case, white space and decoration; False where there is no right answer."""
    return bool(gold.strip()) and _folded(answer) == _folded(gold)


def _folded(text: str) -> str:
    text = plain(text)
    choice = _CHOICE.fullmatch(text)
    return (choice[1] if choice else text).replace("’", "'").casefold()


def is_text(gold: str) -> bool:
    r"""Say whether a right answer is text: words, a name, a date, an address, a version, a phone number, a code.

    Mathematics has LaTeX commands, operators or coefficients (2x); text has words that are no
    function's name, letters and digits mixed as codes mix them (B7, 7B, A-12, H2O), or groups of
    digits that no number is written in (2024-01-05, 192.168.0.1, 1.2.3, 10:30, 555 0199).
    """
    text = plain(gold)
    if "\\" in text:
        return False
    if any(c.isalpha() and ord(c) > 127 and not unicodedata.name(c, "").startswith("GREEK") for c in text):
        return True
    for pattern in (_LETTERS_ONLY, _CHOICE, _ABBREVIATION, _GRADE, _DIGIT_GROUPS, _CODE_NUMBER):
        if pattern.fullmatch(text):
            return text.casefold() not in _KNOWN_WORDS
    if _WEB.search(text) or (_CODE_CHARACTERS.fullmatch(text) and _CODE_SIGN.search(text)):
        return True
    words = [word for word in re.findall(r"[A-Za-z]{2,}", text) if word.casefold() not in _KNOWN_WORDS]
    behind_number = any(re.search(rf"\d {word}", text) for word in words)
    return behind_number or any(len(word) > 3 for word in words) or (bool(words) and not _OPERATOR.search(text))


def is_code(answer: str) -> bool:
    """Say whether an answer mixes letters and digits as no mathematics does: B7, not 7b."""
    return bool(_LETTER_THEN_DIGIT.fullmatch(plain(answer)))
