"""How one model family writes tool calls: the small interface behind which every family sits."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from mentor_pl.messages import ToolCall

MAX_CALL_CHARS = 20_000
"""A longer call is refused unread: parsing is not free, and no tool of ours takes that much."""

MAX_CALL_DEPTH = 64
"""Deeper arguments are refused: whoever writes or validates them later recurses, from a deeper stack than ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCall:
    """A call as it stands in an assistant's text.

    Attributes:
        start: Index of its first character, markers included.
        end: Index behind its last character.
        body: The text between the markers.
        error: Why the body cannot be complete, or None.
    """

    start: int
    end: int
    body: str
    error: str | None = None


class ToolCallFormat(ABC):
    """Finds tool calls in the text of one assistant turn. Never raises: what a student gets wrong is data."""

    name: ClassVar[str]
    """What error messages call the format."""

    forged: ClassVar[tuple[str, ...]]
    """Texts that only the environment writes. A student that writes one tries to speak for its tools, and is stopped."""

    arguments_key: ClassVar[str] = "arguments"
    """Key under which the arguments object stands."""

    @classmethod
    @abstractmethod
    def recognises(cls, template: str) -> bool:
        """Tell whether a chat template (Jinja source) writes calls in this format."""

    @abstractmethod
    def find(self, text: str) -> list[RawCall]:
        """Find the calls in text that holds no reasoning, in order."""

    def parse(self, text: str, *, first_index: int = 0) -> tuple[str, tuple[ToolCall, ...]]:
        """Split an assistant's text into what it says and what it calls.

        A call inside reasoning (`<think>...</think>`) is thought, not made, and stays part of the text.

        Args:
            text: The assistant turn, without its stop token.
            first_index: Number of calls made earlier in the trajectory, so that call ids stay unique.

        Returns:
            The text without its calls, and the calls in order.
        """
        spoken_from = _end_of_reasoning(text)
        thought, spoken = text[:spoken_from], text[spoken_from:]
        kept, position = [thought], 0
        calls: list[ToolCall] = []
        for raw in self.find(spoken):
            kept.append(spoken[position : raw.start])
            position = raw.end
            calls.append(self._read(raw, f"call_{first_index + len(calls)}"))
        kept.append(spoken[position:])
        return "".join(kept).strip(), tuple(calls)

    def is_forged(self, text: str) -> bool:
        """Tell whether the student wrote something that only the environment may write."""
        return any(marker in text for marker in self.forged)

    def _read(self, raw: RawCall, call_id: str) -> ToolCall:
        name, arguments, error = "", {}, raw.error
        if error is None:
            name, arguments, error = read_call_object(raw.body, self.arguments_key)
        return ToolCall(call_id=call_id, name=name, arguments=arguments, parse_error=error)


def _end_of_reasoning(text: str) -> int:
    """Index behind the reasoning: behind the last `</think>`; the text's end where `<think>` never closes."""
    closed = text.rfind("</think>")
    opened = text.rfind("<think>")
    if opened > closed:
        return len(text)
    return 0 if closed < 0 else closed + len("</think>")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):  # 1e999 reads as infinity, which JSON cannot write
        raise ValueError(f"{digits} is too large")
    return value


def _load(body: str) -> Any:
    return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)


_SURROGATE = re.compile("[\ud800-\udfff]")


def read_call_object(body: str, arguments_key: str) -> tuple[str, dict[str, Any], str | None]:
    """Read `{"name": ..., "<arguments_key>": {...}}`.

    Returns:
        Name ("" where it cannot be read), arguments, and the error for the model (None where the call is well formed).
    """
    if len(body) > MAX_CALL_CHARS:
        return "", {}, f"the call is longer than {MAX_CALL_CHARS} characters"
    try:
        value = _load(body)
        if isinstance(value, dict) and isinstance(value.get(arguments_key), str):  # some models quote the object
            value[arguments_key] = _load(value[arguments_key])
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return "", {}, "the call is not valid JSON"
    if not isinstance(value, dict):
        return "", {}, "the call is not a JSON object"
    name = value.get("name")
    if not isinstance(name, str) or not name:
        return "", {}, 'the call has no "name"'
    # A lone surrogate cannot be written to any file or sent to any tool.
    if _SURROGATE.search(name):
        return "", {}, "the call holds a lone surrogate character"
    arguments = value.get(arguments_key, {})
    if not isinstance(arguments, dict):
        return name, {}, f'"{arguments_key}" is not a JSON object'
    if _deeper_than(arguments, MAX_CALL_DEPTH):
        return name, {}, f"the arguments are nested deeper than {MAX_CALL_DEPTH} levels"
    if _SURROGATE.search(json.dumps(arguments, ensure_ascii=False)):
        return name, {}, "the call holds a lone surrogate character"
    return name, arguments, None


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [item for outer in layer for item in (outer.values() if isinstance(outer, dict) else outer)]
        layer = [item for item in layer if isinstance(item, (dict, list))]
    return bool(layer)
