from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from mentor_pl.errors import ConfigError, PluginError, ToolBackendError
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox


class Counter(ToolBackend):
    """Counts its calls and sessions; fails the first `failures` calls as infrastructure does."""

    def __init__(self, name: str = "count", failures: int = 0, slow: bool = False) -> None:
        self.slow = slow
        self.calls = self.opened = self.ended = self.closed = 0
        self._name, self._failures = name, failures

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return (ToolSpec(name=self._name),)

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        self.opened += 1

        def run(call: ToolCall) -> ToolResult:
            self.calls += 1
            if self.calls <= self._failures:
                raise ToolBackendError("the server is away")
            return ToolResult(call_id=call.call_id, content=str(self.calls))

        try:
            yield ToolSession(run=run)
        finally:
            self.ended += 1

    def close(self) -> None:
        self.closed += 1


def prompt(*tools: str) -> Reference:
    return Reference(
        reference_id="p",
        prompt=(Message(role="user", content="?"),),
        answer="",
        tools=tuple(ToolSpec(name=tool) for tool in tools),
    )


def call(name: str, parse_error: str | None = None) -> ToolCall:
    return ToolCall(call_id="c1", name=name, parse_error=parse_error)


def test_calls_go_to_the_backend_that_offers_them() -> None:
    box = ToolBox([PythonFunctions("mentor_pl.tools.arithmetic", functions=["add"]), Counter(slow=True)])
    assert [spec.name for spec in box.specs] == ["add", "count"]
    with box.session() as run:
        assert [run.is_slow(call(name)) for name in ("add", "count", "nope")] == [False, True, False]
        assert run(ToolCall(call_id="7", name="add", arguments={"a": 1, "b": 2})).content == "3"
        assert run(call("count")).content == "1"
    box.close()


def test_arguments_too_deep_to_be_written_are_the_callers_error() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    box = ToolBox([PythonFunctions("mentor_pl.tools.arithmetic", functions=["add"])])
    with box.session() as run:
        result = run(ToolCall(call_id="7", name="add", arguments={"a": deep, "b": 2}))
        assert (result.status, result.content) == (ToolStatus.ERROR, "Error: add: the arguments are nested too deeply")
        assert run(ToolCall(call_id="8", name="add", arguments={"a": 1, "b": 2})).content == "3"
    box.close()


def test_duplicate_names_are_refused_naming_both_backends() -> None:
    class Other(Counter): ...

    with pytest.raises(ConfigError, match="tool 'count' is offered by both Counter and Other"):
        ToolBox([Counter(), Other()])


def test_malformed_unknown_and_not_offered_calls_run_nothing() -> None:
    counter, other = Counter(), Counter("other")
    with ToolBox([counter, other]).session(prompt("count")) as run:
        for bad, content in [
            (call("count", parse_error="the arguments are not valid JSON"), "Error: the arguments are not valid JSON"),
            (call("cuont"), "Error: unknown tool 'cuont'; the tools are count"),
            (call("other"), "Error: unknown tool 'other'; the tools are count"),
        ]:
            result = run(bad)
            assert (result.call_id, result.status, result.content) == ("c1", ToolStatus.ERROR, content)
    assert (counter.calls, counter.opened, other.calls, other.opened) == (0, 0, 0, 0)


def test_a_backend_session_opens_once_and_ends_with_the_trajectory() -> None:
    counter = Counter()
    box = ToolBox([counter])
    with box.session() as run:
        run(call("count"))
        run(call("count"))
        assert (counter.opened, counter.ended) == (1, 0)
    assert (counter.opened, counter.ended) == (1, 1)
    box.close()
    assert counter.closed == 1


def test_failed_infrastructure_is_tried_twice() -> None:
    once = Counter(failures=1)
    with ToolBox([once]).session() as run:
        assert run(call("count")).status is ToolStatus.OK
    twice = Counter(failures=2)
    with ToolBox([twice]).session() as run:
        result = run(call("count"))
    assert result.status is ToolStatus.INFRASTRUCTURE
    assert result.content == "Error: count is unavailable: the server is away"
    assert twice.calls == 2


class Spoilt(Counter):
    """Answers whatever its `answer` gives."""

    def __init__(self, answer: Callable[[ToolCall], Any], *, parallel: bool = False) -> None:
        super().__init__()
        self.answer, self.parallel = answer, parallel

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        yield ToolSession(run=self.answer)


def broken(call: ToolCall) -> ToolResult:
    raise KeyError("shelf")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (broken, "Spoilt, asked to run 'count', raised KeyError: 'shelf'"),
        (lambda call: None, "the tool 'count' answered with None; a session returns a ToolResult"),
        (lambda call: "3", "the tool 'count' answered with '3'"),
        (lambda call: ToolResult(call_id="other", content=""), "call_id 'other' for the call 'c1'"),
        (lambda call: ToolResult(call_id="c1", content=3), "content 3; it must be a text"),  # type: ignore[arg-type]
        (lambda call: ToolResult(call_id="c1", content="", duration_s=float("nan")), "duration_s nan"),
        (lambda call: ToolResult(call_id="c1", content="", status="fine"), "status 'fine'"),  # type: ignore[arg-type]
    ],
)
def test_a_backend_that_breaks_its_contract_is_named(answer: Callable[[ToolCall], Any], message: str) -> None:
    with ToolBox([Spoilt(answer)]).session() as run, pytest.raises(PluginError, match=message):
        run(call("count"))


def test_no_session_is_named_too() -> None:
    class Forgetful(Counter):
        def session(self, reference: Reference | None = None) -> Any:
            return nullcontext(None)

    with ToolBox([Forgetful()]).session() as run, pytest.raises(PluginError, match="Forgetful gave None"):
        run(call("count"))


def test_a_call_that_keeps_no_limit_is_infrastructure() -> None:
    never = threading.Event()

    def hang(call: ToolCall) -> ToolResult:
        never.wait()
        return ToolResult(call_id=call.call_id, content="")

    with ToolBox([Spoilt(hang)], call_timeout_s=0.05).session() as run:
        result = run(call("count"))
    never.set()
    assert (result.status, result.content) == (
        ToolStatus.INFRASTRUCTURE,
        "Error: count did not end within 0.05 s, the limit of any call",
    )


def test_calls_of_one_turn_run_side_by_side_where_the_backend_allows_it() -> None:
    together = threading.Barrier(3)

    def meet(call: ToolCall) -> ToolResult:
        together.wait(timeout=30)  # raises unless all three are there at once
        return ToolResult(call_id=call.call_id, content=call.call_id)

    calls = [ToolCall(call_id=name, name="count") for name in "abc"]
    with ToolBox([Spoilt(meet, parallel=True)]).session() as run:
        assert [result.content for result in run.run(calls)] == ["a", "b", "c"]


def test_calls_that_share_state_run_in_order() -> None:
    with ToolBox([Counter()]).session() as run:
        assert [result.content for result in run.run([call("count")] * 3)] == ["1", "2", "3"]


class PerPrompt(Counter):
    """Offers whatever the prompt says."""

    per_prompt = True
    specs = ()

    def specs_for(self, reference: Reference) -> tuple[ToolSpec, ...]:
        return reference.tools

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        assert reference is not None
        yield ToolSession(run=lambda call: ToolResult(call_id=call.call_id, content=reference.reference_id))


def test_tools_may_belong_to_the_prompt() -> None:
    box = ToolBox([Counter(), PerPrompt()])
    asked = prompt("weather", "count")
    assert [spec.name for spec in box.specs] == ["count"]
    assert [(spec.name, spec.description) for spec in box.offered(asked)] == [("weather", ""), ("count", "")]
    assert (box.missing(asked), ToolBox([Counter()]).missing(asked)) == ([], ["weather"])
    with box.session(asked) as run:
        assert [run(call(name)).content for name in ("weather", "count")] == ["p", "1"]
        assert run(call("other")).content == "Error: unknown tool 'other'; the tools are weather, count"


class Judging(Counter):
    """Has a state and a score."""

    tells_state = True

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        yield ToolSession(run=broken, state=lambda: {"stock": (1, 2)}, score=lambda: 0.5)


def test_state_and_score_are_told_also_where_nothing_was_called() -> None:
    with ToolBox([Counter("other"), Judging()]).session() as run:
        assert (run.state(), run.score()) == ({"stock": [1, 2]}, 0.5)
    with ToolBox([Counter()]).session() as run:
        assert (run.state(), run.score()) == (None, None)
