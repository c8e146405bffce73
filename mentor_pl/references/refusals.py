"""What an endpoint's error means for a collection: end it, give this conversation up, or try again."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_FATAL_STATUS = {
    401: "the key is not accepted",
    402: "nothing is left on the account",
    403: "the key may not use this",
    404: "there is no such model or path",
    405: "this address takes no chat completions",
    407: "the proxy wants a password",
    410: "the model is gone",
}
_RETRIED_STATUS = (408, 409, 425, 429)
_FATAL_CODES = {
    "insufficient_quota": "nothing is left on the account",
    "insufficient_balance": "nothing is left on the account",
    "exceeded_current_quota_error": "nothing is left on the account",
    "billing_hard_limit_reached": "nothing is left on the account",
    "billing_not_active": "the account is not active",
    "account_deactivated": "the account is not active",
    "arrearage": "nothing is left on the account",
    "invalid_api_key": "the key is not accepted",
    "model_not_found": "there is no such model",
}
_FATAL_WORDS = (
    (re.compile(r"insufficient (balance|credits?|funds|quota)|credit balance is too low|out of credits", re.I), 402),
    (re.compile(r"(invalid|incorrect) api key|api key (is )?(not valid|invalid|expired)", re.I), 401),
    (re.compile(r"model\b.{0,80}\b(does not exist|not found|is not available)|no such model", re.I), 404),
)
_OWN_FAULT = re.compile(
    r"context[_ ]length|context window|maximum context|too many tokens|prompt is too long|content[_ ](filter|policy|management)"
    r"|moderation|safety",
    re.I,
)
_FLAGGED = re.compile(r"moderation|flagged|content[_ ](filter|policy)", re.I)
_MAX_WORDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error of an endpoint.

    Attributes:
        status: HTTP status, also where it only stands in the body.
        kind: "fatal": no conversation will be taken; "conversation": this one is not taken, for
            what it says or how long it is; "request": this one is not taken, and perhaps none is;
            "passing": try again.
        meaning: What the status says, in our words; "" where it needs none.
        words: What the endpoint said, in at most 300 characters.
    """

    status: int
    kind: Literal["fatal", "conversation", "request", "passing"]
    meaning: str
    words: str

    def __str__(self) -> str:
        """Return status, meaning and words."""
        return ": ".join(filter(None, (f"HTTP {self.status}", self.meaning, self.words)))


def read_refusal(status: int, body: bytes, location: str = "") -> Refusal:
    """Read an error.

    Args:
        status: HTTP status.
        body: As it came.
        location: Where a redirect points.
    """
    said = _said(body)
    words = _words(said)
    if 300 <= status < 400:
        meaning = f"it redirects to {location[:200]!r}; put the address that is meant into base_url"
        return Refusal(status=status, kind="fatal", meaning=meaning, words=words)
    codes = _codes(said)
    if status == 403 and _FLAGGED.search(words):  # as gateways say that a prompt was flagged
        return Refusal(status=status, kind="conversation", meaning="", words=words)
    meaning = next((_FATAL_CODES[code] for code in codes if code in _FATAL_CODES), _FATAL_STATUS.get(status, ""))
    for pattern, meant in _FATAL_WORDS if 400 <= status < 500 else ():
        if not meaning and pattern.search(words):
            meaning = _FATAL_STATUS[meant]
    if meaning:
        return Refusal(status=status, kind="fatal", meaning=meaning, words=words)
    if status >= 500 or status in _RETRIED_STATUS:
        return Refusal(status=status, kind="passing", meaning="", words=words)
    own = any(_OWN_FAULT.search(text) for text in (words, *codes))
    return Refusal(status=status, kind="conversation" if own else "request", meaning="", words=words)


def refusal_in_reply(answer: Any) -> Refusal | None:
    """Read an error that came with status 200, as gateways send them; None where there is none."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error or answer.get("choices"):
        return None
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    digits = str(code)
    status = int(digits) if digits.isdecimal() and 400 <= int(digits[:6]) < 600 else 500
    return read_refusal(status, json.dumps(answer).encode())


def words_in(body: bytes) -> str:
    """Return what a body says, whatever it is, in at most 300 characters."""
    return _words(_said(body))


def _said(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def _inside(said: Any) -> Any:
    """Return the error object of a body, whichever of the usual forms it has."""
    if isinstance(said, list) and said:
        said = said[0]
    if isinstance(said, dict) and said.get("error"):
        return said["error"]
    return said


def _words(said: Any) -> str:
    inner = _inside(said)
    for name in ("message", "detail", "msg", "error_description"):
        if isinstance(inner, dict) and inner.get(name):
            inner = inner[name]
            break
    text = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
    return " ".join(re.sub(r"<[^<>]{0,200}>", " ", text[:5000]).split())[:_MAX_WORDS]


def _codes(said: Any) -> list[str]:
    inner = _inside(said)
    if not isinstance(inner, dict):
        return []
    return [str(inner[name]).lower() for name in ("code", "type", "status") if inner.get(name)]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read how long an endpoint wants not to be asked, in seconds; None where it does not say.

    `Retry-After` is a number or a date (RFC 9110, 10.2.3); `retry-after-ms` is what some servers
    write beside it.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            wait_s = float(value) * scale
        except ValueError:
            try:
                wait_s = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if wait_s == wait_s:  # not NaN
            return max(0.0, wait_s)
    return None
