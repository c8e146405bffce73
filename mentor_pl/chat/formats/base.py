"""How one model family writes tool calls: the small interface behind which every family sits."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mentor_pl.messages import ToolCall, ToolSpec

MAX_CALL_CHARS = 20_000
"""A longer call is refused unread: parsing is not free, and no tool of ours takes that much."""

MAX_CALL_DEPTH = 64
"""Deeper arguments are refused: whoever writes or validates them later recurses, from a deeper stack than ours."""


WriteTurn = Callable[[Sequence[ToolCall]], str]
"""Writes calls as a template writes them: the assistant turn that a student would sample, without its stop token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCall:
    """A call as it stands in an assistant's text.

    Attributes:
        start: Index of its first character, markers included.
        end: Index behind its last character.
        body: The text between the markers.
        error: Why the body cannot be complete, or None.
        written_id: The id that the call gives itself, or None; see `repeatable_id`.
    """

    start: int
    end: int
    body: str
    error: str | None = None
    written_id: str | None = None


class ToolCallFormat(ABC):
    """Finds tool calls in the text of one assistant turn. Never raises: what a student gets wrong is data."""

    name: ClassVar[str]
    """What messages call the format."""

    priority: ClassVar[int] = 50
    """Of formats that read a template's calls equally well, the one with the lowest number is taken."""

    forged: tuple[str, ...] = ()
    """Texts that only the environment writes. A student that writes one tries to speak for its tools, and is stopped."""

    @classmethod
    def learn(cls, write: WriteTurn) -> ToolCallFormat | None:
        """Make the format as one chat template uses it. Whether it fits is then found out by reading calls back.

        Args:
            write: Writes calls by that template. It may raise a `ChatFormatError`.

        Returns:
            The format, or None where the template plainly uses another one.
        """
        return cls()

    @abstractmethod
    def find(self, text: str) -> list[RawCall]:
        """Find the calls in text that holds no reasoning, in order."""

    def decode(self, body: str, tools: Mapping[str, ToolSpec]) -> tuple[str, dict[str, Any], str | None]:
        """Read the text between a call's markers; by default a JSON object with name and arguments.

        Args:
            body: As found.
            tools: What is offered, by name: formats without types look them up there.

        Returns:
            Name ("" where it cannot be read), arguments, and the error for the model (None where
            the call is well formed).
        """
        return read_call_object(body)

    def parse(
        self, text: str, *, first_index: int = 0, tools: Mapping[str, ToolSpec] | None = None
    ) -> tuple[str, tuple[ToolCall, ...]]:
        """Split an assistant's text into what it says and what it calls.

        Args:
            text: The assistant turn behind its reasoning, without its stop token.
            first_index: Number of calls made earlier in the trajectory, so that call ids stay
                unique.
            tools: What is offered, by name.

        Returns:
            The text without its calls, and the calls in order.
        """
        kept: list[str] = []
        position = 0
        calls: list[ToolCall] = []
        for raw in self.find(text):
            kept.append(text[position : raw.start])
            position = raw.end
            calls.append(self._read(raw, f"call_{first_index + len(calls)}", tools or {}))
        kept.append(text[position:])
        return "".join(kept).strip(), tuple(calls)

    def split_reasoning(self, text: str) -> tuple[str, str] | None:
        """Split a turn into reasoning and the rest, where the format itself says which is which; None leaves it to the template's tags."""
        return None

    def is_forged(self, text: str) -> bool:
        """Tell whether the student wrote something that only the environment may write."""
        return any(marker in text for marker in self.forged)

    def _read(self, raw: RawCall, call_id: str, tools: Mapping[str, ToolSpec]) -> ToolCall:
        name, arguments, error = "", {}, raw.error
        if error is None and len(raw.body) > MAX_CALL_CHARS:
            error = f"the call is longer than {MAX_CALL_CHARS} characters"
        if error is None:
            name, arguments, error = self.decode(raw.body, tools)
        return ToolCall(call_id=call_id, name=name, arguments=arguments, parse_error=error, written_id=raw.written_id)


_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


def repeatable_id(value: Any) -> str | None:
    """Return an id that a student wrote, where it can stand in what the template writes next; None for any other.

    Letters, digits and `_ . : -`, at most 64 of them: such a text spells no control token and needs
    no escaping.
    """
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def written_id_of(value: Any) -> str | None:
    """Return the id that a call's decoded JSON holds, or None."""
    if not isinstance(value, dict):
        return None
    return next((repeatable_id(value[key]) for key in _ID_KEYS if key in value), None)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):  # 1e999 reads as infinity, which JSON cannot write
        raise ValueError(f"{digits} is too large")
    return value


def load_json(body: str) -> Any:
    """Read strict JSON.

    Raises:
        ValueError: It is none, or holds a number that JSON cannot write.
        RecursionError: Its brackets are nested too deep.
    """
    return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)


_SURROGATE = re.compile("[\ud800-\udfff]")


_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters", "args")
_ID_KEYS = ("id", "tool_call_id", "call_id")


def read_call_object(body: str) -> tuple[str, dict[str, Any], str | None]:
    """Read `{"name": ..., "arguments": {...}}`, or `parameters` in the place of `arguments`.

    Returns:
        Name ("" where it cannot be read), arguments, and the error for the model (None where the
        call is well formed).
    """
    if len(body) > MAX_CALL_CHARS:
        return "", {}, f"the call is longer than {MAX_CALL_CHARS} characters"
    try:
        value = load_json(body)
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return "", {}, "the call is not valid JSON"
    return read_call_value(value)


def read_call_value(value: Any) -> tuple[str, dict[str, Any], str | None]:
    """Read a call from its decoded JSON; see `read_call_object`."""
    if not isinstance(value, dict):
        return "", {}, "the call is not a JSON object"
    inner = value.get("function")
    if isinstance(inner, dict) and "name" not in value:  # {"type": "function", "function": {...}}
        value = inner
    name = next((value[key] for key in _NAME_KEYS if key in value), None)
    if not isinstance(name, str) or not name:
        return "", {}, 'the call has no "name"'
    given = [key for key in _ARGUMENT_KEYS if key in value]
    if len(given) > 1 and any(value[key] != value[given[0]] for key in given):
        return name, {}, f"the call has both {' and '.join(map(repr, given))}, with different values"
    return checked_call(name, value[given[0]] if given else {}, given[0] if given else "arguments")


def checked_call(name: str, arguments: Any, key: str = "arguments") -> tuple[str, dict[str, Any], str | None]:
    """Refuse names and arguments that cannot be written to a file or sent to a tool.

    Args:
        name: As written.
        arguments: As decoded; a text is taken for JSON that was quoted.
        key: What the student called them.
    """
    if isinstance(arguments, str):
        try:
            arguments = load_json(arguments)
        except (ValueError, RecursionError):
            return "", {}, "the call is not valid JSON"
    # A lone surrogate cannot be written to any file or sent to any tool.
    if _SURROGATE.search(name):
        return "", {}, "the call holds a lone surrogate character"
    if not isinstance(arguments, dict):
        return name, {}, f'"{key}" is not a JSON object'
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
