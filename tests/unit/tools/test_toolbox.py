from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
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
    def session(self) -> Generator[ToolSession]:
        self.opened += 1

        def run(call: ToolCall) -> ToolResult:
            self.calls += 1
            if self.calls <= self._failures:
                raise ToolBackendError("the server is away")
            return ToolResult(call_id=call.call_id, content=str(self.calls))

        try:
            yield run
        finally:
            self.ended += 1

    def close(self) -> None:
        self.closed += 1


def call(name: str, parse_error: str | None = None) -> ToolCall:
    return ToolCall(call_id="c1", name=name, parse_error=parse_error)


def test_calls_go_to_the_backend_that_offers_them() -> None:
    box = ToolBox([PythonFunctions("mentor_pl.tools.arithmetic", functions=["add"]), Counter(slow=True)])
    assert [spec.name for spec in box.specs] == ["add", "count"]
    assert (box.is_slow("add"), box.is_slow("count"), box.is_slow("nope")) == (False, True, False)
    with box.session() as run:
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
    with ToolBox([counter, other]).session(offered={"count"}) as run:
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
