"""Messages, tools and tool calls, in the vocabulary of the OpenAI chat format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


def well_formed(text: str) -> str:
    """Replace what no UTF-8 can hold: halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as it is offered to a model.

    Attributes:
        name: How a call names the tool.
        description: What the model reads about it.
        parameters: JSON Schema of the arguments object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}}, hash=False)

    def to_openai(self) -> dict[str, Any]:
        """Return the form that chat templates take as `tools=` and OpenAI endpoints as `tools`."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One tool call, as an assistant wrote it.

    A malformed call is still a `ToolCall`: what a student gets wrong is data.

    Attributes:
        call_id: Unique within its trajectory.
        name: Name of the tool as written; may be unknown, and is "" where it could not be read.
        arguments: Arguments by name; empty where `parse_error` is set.
        parse_error: Why the call cannot be run, in words for the model; None for a well-formed
            call.
        extra: What an endpoint gave beside, or in another form (a signature, its own id), as it
            came. Only that endpoint is sent it.
        written_id: The id that a student wrote into its call, where its format has ids: its result
            is shown under that one. It need not be unique, and tells no calls apart. None where
            there is none, or none that can be repeated.
    """

    call_id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    parse_error: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    written_id: str | None = field(default=None, compare=False)

    def to_openai(self) -> dict[str, Any]:
        """Return the form of a message's `tool_calls` item; `arguments` is a JSON string there, `extra` is left out."""
        arguments = json.dumps(dict(self.arguments), ensure_ascii=False)
        row: dict[str, Any] = {
            "id": self.call_id,
            "type": "function",
            "function": {"name": self.name, "arguments": arguments},
        }
        ours = {"parse_error": self.parse_error, "written_id": self.written_id}
        return row | {key: value for key, value in ours.items() if value is not None}


class ToolStatus(StrEnum):
    """How a tool call ended.

    `ERROR` and `TIMEOUT` are the caller's doing (or the tool's honest answer) and are shown to the
    model; `INFRASTRUCTURE` is nobody's, and its trajectory leaves both the loss and its group's
    statistics.
    """

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What came back from one tool call: a line of the executor's ledger, from which used tools are counted.

    Attributes:
        call_id: The call that this answers.
        content: What the model is shown; for a failed call the error text.
        status: How the call ended.
        duration_s: Wall-clock seconds from dispatch to answer.
        output_chars: Length of the tool's own output, before any truncation.
        final: True where the call ended the trajectory.
    """

    call_id: str
    content: str
    status: ToolStatus = ToolStatus.OK
    duration_s: float = 0.0
    output_chars: int = 0
    final: bool = False

    @property
    def ok(self) -> bool:
        """True where the tool ran and answered."""
        return self.status is ToolStatus.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Who speaks.
        content: The text; "" where a message only carries tool calls.
        tool_calls: Calls of an assistant message, in the order written.
        tool_call_id: Of a tool message: the call that it answers.
        name: Of a tool message: the tool's name.
        reasoning: What an assistant thought before it spoke, without markers; "" where it did not.
            No part of `content`.
        trained: False where an assistant message is context only (`weight: 0`): SFT does not
            imitate it.
        extra: What an endpoint gave beside, or in another form (reasoning details, signatures,
            content in parts, null content), as it came. Only that endpoint is sent it.
    """

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str = ""
    trained: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)

    def to_openai(self) -> dict[str, Any]:
        """Return the JSON object of the OpenAI chat format; `extra` is left out."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning:
            row["reasoning_content"] = self.reasoning
        if self.tool_calls:
            row["tool_calls"] = [call.to_openai() for call in self.tool_calls]
        if self.tool_call_id is not None:
            row["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            row["name"] = self.name
        if not self.trained:
            row["weight"] = 0
        return row
