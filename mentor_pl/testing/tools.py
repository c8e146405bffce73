"""The contract of tool backends."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jsonschema import Draft202012Validator, SchemaError

from mentor_pl.messages import ToolCall, ToolResult, ToolStatus
from mentor_pl.testing.contract import require
from mentor_pl.tools.base import ToolBackend


def check_tool_backend(backend: ToolBackend, calls: Sequence[ToolCall] = ()) -> None:
    """Check that a backend keeps its plugin point's contract; does not close it.

    Its specs must be constant, named once each, with JSON Schema for their arguments. A malformed call, one of an unknown tool and one
    with nonsense for arguments must come back as failed results and not raise. Sessions must run side by side.

    Args:
        backend: The backend.
        calls: Calls that must succeed, harmless to repeat.

    Raises:
        PluginError: It does not.
    """
    _check_specs(backend)
    names = [spec.name for spec in backend.specs]
    wrong = [
        ToolCall(call_id="malformed", name=names[0], parse_error="the arguments are not JSON"),
        ToolCall(call_id="nameless", name="", parse_error="the call has no name"),
        ToolCall(call_id="unknown", name="_".join(["no_such", *names])),
    ]
    wrong += [ToolCall(call_id=f"surplus {name}", name=name, arguments={"no such argument": [None]}) for name in names]
    with backend.session() as session:
        for call in wrong:
            result = _run(backend, session(call), call)
            require(
                result.status in (ToolStatus.ERROR, ToolStatus.TIMEOUT) and bool(result.content),
                backend,
                f"the wrong call {call} gave status {result.status.value} with the content {result.content!r}",
                "what the caller gets wrong is an error with words for the model",
            )
        for call in calls:
            _check_success(backend, session(call), call)
    with ThreadPoolExecutor(max_workers=8) as threads:
        for outcome in [threads.submit(_session_of, backend, calls) for _ in range(16)]:
            for result, call in zip(outcome.result(), calls, strict=True):
                _check_success(backend, result, call)


def _session_of(backend: ToolBackend, calls: Sequence[ToolCall]) -> list[ToolResult]:
    with backend.session() as session:
        return [session(call) for call in calls]


def _check_specs(backend: ToolBackend) -> None:
    specs = backend.specs
    require(len(specs) > 0, backend, "it offers no tool", "specs must name at least one")
    require(backend.specs == specs, backend, "specs differ from one reading to the next", "they must be constant")
    names = [spec.name for spec in specs]
    require(len(set(names)) == len(names), backend, f"names occur twice in {names}", "each tool needs its own name")
    for spec in specs:
        require(bool(spec.description.strip()), backend, f"{spec.name} has no description", "the model reads it")
        require(
            spec.parameters.get("type") == "object",
            backend,
            f"the parameters of {spec.name} are {dict(spec.parameters)}",
            'they must be JSON Schema with "type": "object"',
        )
        try:
            Draft202012Validator.check_schema(dict(spec.parameters))
        except SchemaError as failure:
            require(False, backend, f"the parameters of {spec.name}: {failure.message}", "they must be JSON Schema")


def _check_success(backend: ToolBackend, result: ToolResult, call: ToolCall) -> None:
    _run(backend, result, call)
    require(result.ok, backend, f"{call} gave {result.status.value}: {result.content!r}", "this call must succeed")


def _run(backend: ToolBackend, result: ToolResult, call: ToolCall) -> ToolResult:
    require(isinstance(result, ToolResult), backend, f"{call} gave {result!r}", "a session returns a ToolResult")
    require(
        result.call_id == call.call_id,
        backend,
        f"the call {call.call_id!r} was answered with call_id {result.call_id!r}",
        "a result names the call that it answers",
    )
    require(result.duration_s >= 0.0, backend, f"{call} took {result.duration_s} s", "durations are not negative")
    return result
