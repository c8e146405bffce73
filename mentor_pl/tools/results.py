"""Tool results in the words that every backend shares; short, because a student reads them."""

from __future__ import annotations

from collections.abc import Iterable

from mentor_pl.messages import ToolCall, ToolResult, ToolStatus, well_formed

MAX_CHARS = 200_000
"""Nobody reads more of one text. Whoever does not cut its own output is cut here, before it is tokenised and recorded."""


def failed(call: ToolCall, text: str, *, status: ToolStatus = ToolStatus.ERROR, duration_s: float = 0.0) -> ToolResult:
    """Return the result of a call that failed, with `text` as its reason."""
    return ToolResult(call_id=call.call_id, content=f"Error: {text}", status=status, duration_s=duration_s)


def refused(call: ToolCall, names: Iterable[str]) -> ToolResult | None:
    """Return the error of a call that must not run: malformed, or naming none of `names`; None where it may run."""
    if call.parse_error is not None:
        return failed(call, call.parse_error)
    known = list(names)
    if call.name not in known:
        return failed(call, f"unknown tool {call.name!r:.80}; the tools are {', '.join(known) or 'none'}")
    return None


def shown(text: str) -> str:
    """Return what is shown of a text that comes from outside: cut to `MAX_CHARS`, and such as UTF-8 can hold."""
    return truncated(well_formed(text), MAX_CHARS)


def truncated(text: str, max_chars: int) -> str:
    """Cut `text` to `max_chars` characters and say so at its end; a shorter one comes back as it is."""
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}\n[truncated: {max_chars} of {len(text)} characters shown]"
