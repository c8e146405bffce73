"""Tools that answer from the teacher's own transcript: training from logs alone."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from mentor_pl.messages import ToolCall, ToolResult
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.prompt_tools import PromptTools
from mentor_pl.tools.result_simulator import ResultSimulator
from mentor_pl.tools.results import failed


class ReplayedTools(PromptTools):
    """Answers a call with what the teacher got for the same call in the prompt's reference. Runs nothing.

    Calls are the same where tool and arguments are. Arguments are compared as JSON values: 3 equals
    3.0, keys have no order, true is not 1. Where the teacher made a call several times, its results
    come in order, and the last one again. Any other call is an error: there is no such result in
    the transcript. With `otherwise` a result is made up for it.

    Args:
        ignored_arguments: Arguments that may differ, by tool: `{search: [page_size]}`. The tool "*"
            stands for all.
        described_by: Describes tools that a prompt only names; runs nothing. Closed together with
            this one.
        otherwise: Makes up the result of any other call, for example
            `mentor_pl.simulation.results.SimulatedResults`.
    """

    stateful = True

    def __init__(
        self,
        ignored_arguments: dict[str, list[str]] | None = None,
        described_by: ToolBackend | None = None,
        otherwise: ResultSimulator | None = None,
    ) -> None:
        self._ignored = {tool: frozenset(names) for tool, names in (ignored_arguments or {}).items()}
        self._otherwise = otherwise
        self.slow = otherwise is not None
        super().__init__(described_by)

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a session with the results of a prompt's reference."""
        specs = () if reference is None else self.specs_for(reference)
        recorded: defaultdict[str, list[str]] = defaultdict(list)
        for call, content in () if reference is None else recorded_results(reference):
            recorded[self._key(call)].append(content)
        used: defaultdict[str, int] = defaultdict(int)

        earlier: list[tuple[ToolCall, str]] = []

        def run(call: ToolCall) -> ToolResult:
            if refusal := self.refusal(call, specs):
                return refusal
            key = self._key(call)
            results = recorded.get(key)
            if results is not None:
                content = results[min(used[key], len(results) - 1)]
                used[key] += 1
            elif self._otherwise is None or reference is None:
                return failed(call, f"{call.name}: no such result; nothing is known for these arguments")
            else:
                spec = next(spec for spec in specs if spec.name == call.name)
                content = self._otherwise.result(call, spec, reference, tuple(earlier))
            earlier.append((call, content))
            return ToolResult(call_id=call.call_id, content=content, output_chars=len(content))

        return nullcontext(ToolSession(run=run))

    def _key(self, call: ToolCall) -> str:
        ignored = self._ignored.get(call.name, frozenset()) | self._ignored.get("*", frozenset())
        arguments = {name: value for name, value in call.arguments.items() if name not in ignored}
        return json.dumps([call.name, _canonical(arguments)], sort_keys=True)


def recorded_results(reference: Reference) -> list[tuple[ToolCall, str]]:
    """Return the calls of a teacher's transcript that were answered, each with its answer, in order."""
    pairs: list[tuple[ToolCall, str]] = []
    waiting: list[ToolCall] = []
    for message in reference.messages:
        if message.role == "assistant":
            waiting = list(message.tool_calls)
        elif message.role == "tool":
            # Files without ids answer in order.
            named = [call for call in waiting if call.call_id == message.tool_call_id]
            if call := next(iter(named or waiting), None):
                waiting.remove(call)
                pairs.append((call, message.content))
    return pairs


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_canonical(item) for item in cast("list[Any]", value)]
    return int(value) if isinstance(value, float) and value.is_integer() else value
