"""The contract of tool backends."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jsonschema import Draft202012Validator, SchemaError

from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.testing.contract import require
from mentor_pl.tools.base import ToolBackend, ToolSession


def check_tool_backend(
    backend: ToolBackend, calls: Sequence[ToolCall] = (), reference: Reference | None = None
) -> None:
    """Check that a backend keeps its plugin point's contract; does not close it.

    Its specs must be constant, named once each, with JSON Schema for their arguments. A malformed
    call, one of an unknown tool and one with nonsense for arguments must come back as failed
    results and not raise. Sessions must run side by side, and so must the calls of one session
    where the backend is `parallel`. A state must be JSON, and is told only by a backend that says
    so.

    Args:
        backend: The backend.
        calls: Calls that must succeed, harmless to repeat.
        reference: A prompt; needed where the tools differ from prompt to prompt.

    Raises:
        PluginError: It does not.
    """
    require(
        reference is not None or not backend.per_prompt,
        backend,
        "its tools differ from prompt to prompt, and no prompt was given",
        "hand check_tool_backend a `reference`",
    )
    specs = _check_specs(backend, reference)
    names = [spec.name for spec in specs]
    wrong = [
        ToolCall(call_id="malformed", name=names[0], parse_error="the arguments are not JSON"),
        ToolCall(call_id="nameless", name="", parse_error="the call has no name"),
        ToolCall(call_id="unknown", name="_".join(["no_such", *names])),
    ]
    wrong += [ToolCall(call_id=f"surplus {name}", name=name, arguments={"no such argument": [None]}) for name in names]
    with backend.session(reference) as session:
        require(isinstance(session, ToolSession), backend, f"session() gave {session!r}", "it must give a ToolSession")
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
        _check_state(backend, session)
    with ThreadPoolExecutor(max_workers=8) as threads:
        for outcome in [threads.submit(_session_of, backend, calls, reference) for _ in range(16)]:
            for result, call in zip(outcome.result(), calls, strict=True):
                _check_success(backend, result, call)
        if backend.parallel:
            with backend.session(reference) as session:
                for call, result in zip(list(calls) * 4, threads.map(session, list(calls) * 4), strict=True):
                    _check_success(backend, result, call)


def _session_of(backend: ToolBackend, calls: Sequence[ToolCall], reference: Reference | None) -> list[ToolResult]:
    with backend.session(reference) as session:
        return [session(call) for call in calls]


def _check_state(backend: ToolBackend, session: ToolSession) -> None:
    tells = session.state is not None or session.score is not None
    require(
        tells == backend.tells_state,
        backend,
        f"tells_state is {backend.tells_state}, but a session {'has' if tells else 'lacks'} `state` or `score`",
        "the two must agree, or nobody asks for the state",
    )
    if session.state is not None:
        state = session.state()
        try:
            json.dumps(state, allow_nan=False)
        except (TypeError, ValueError) as unfit:
            require(False, backend, f"its state {state!r:.100} is not JSON: {unfit}", "a state is kept in files")
    if session.score is not None:
        score = session.score()
        require(0.0 <= score <= 1.0, backend, f"its score is {score!r}", "scores lie in [0, 1]")


def _check_specs(backend: ToolBackend, reference: Reference | None) -> tuple[ToolSpec, ...]:
    def read() -> tuple[ToolSpec, ...]:
        return backend.specs if reference is None else backend.specs_for(reference)

    specs = read()
    require(len(specs) > 0, backend, "it offers no tool", "specs must name at least one")
    require(read() == specs, backend, "specs differ from one reading to the next", "they must be constant")
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
    return specs


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
    require(
        0.0 <= result.duration_s < math.inf, backend, f"{call} took {result.duration_s} s", "durations are not negative"
    )
    return result
