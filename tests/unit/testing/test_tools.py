from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from mentor_pl.errors import PluginError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.testing import check_tool_backend
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.functions import PythonFunctions

SPEC = ToolSpec(name="echo", description="Say it again.")
HELLO = ToolCall(call_id="h", name="echo", arguments={"text": "hello"})


class Echo(ToolBackend):
    """A backend in memory; its class attributes are what the cases below spoil."""

    offered: Any = (SPEC,)
    answer: Callable[[ToolCall], ToolResult] | None = None

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return self.offered

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        return nullcontext(ToolSession(run=type(self).answer or self._run))

    def _run(self, call: ToolCall) -> ToolResult:
        if call.parse_error or call.name != "echo" or set(call.arguments) != {"text"}:
            return ToolResult(call_id=call.call_id, content="Error: say echo(text)", status=ToolStatus.ERROR)
        return ToolResult(call_id=call.call_id, content=str(call.arguments["text"]))


def test_backends_that_keep_the_contract_pass() -> None:
    check_tool_backend(Echo(), [HELLO])
    backend = PythonFunctions("mentor_pl.tools.arithmetic")
    try:
        check_tool_backend(backend, [ToolCall(call_id="1", name="add", arguments={"a": 1, "b": 2})])
    finally:
        backend.close()


def ok(call: ToolCall) -> ToolResult:
    return ToolResult(call_id=call.call_id, content="fine")


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"offered": ()}, "it offers no tool"),
        ({"offered": (SPEC, SPEC)}, "names occur twice"),
        ({"offered": (ToolSpec(name="echo"),)}, "echo has no description"),
        ({"offered": (ToolSpec(name="e", description="x", parameters={"type": "list"}),)}, 'with "type": "object"'),
        (
            {"offered": (ToolSpec(name="e", description="x", parameters={"type": "object", "required": 3}),)},
            "the parameters of e: 3 is not .*they must be JSON Schema",
        ),
        ({"answer": staticmethod(ok)}, "the wrong call .* gave status ok.*is an error with words for the model"),
        (
            {"answer": staticmethod(lambda call: ToolResult(call_id="x", content="no", status=ToolStatus.ERROR))},
            "was answered with call_id 'x'",
        ),
        ({"answer": staticmethod(lambda call: "text")}, "a session returns a ToolResult"),
        (
            {
                "answer": staticmethod(
                    lambda call: ToolResult(call_id=call.call_id, content="", status=ToolStatus.ERROR)
                )
            },
            "gave status error with the content ''",
        ),
    ],
)
def test_a_broken_clause_is_named(spoilt: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_tool_backend(type("Spoilt", (Echo,), spoilt)())


def test_a_call_that_must_succeed_does() -> None:
    with pytest.raises(PluginError, match="gave error: 'Error: say echo.text.'; this call must succeed"):
        check_tool_backend(Echo(), [ToolCall(call_id="h", name="echo")])
