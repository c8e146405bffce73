from contextlib import contextmanager

import pytest

from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.rollout.agent_loop import Episode, sample_seed
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import StopReason


def test_a_seed_depends_on_run_prompt_and_sample_only():
    seeds = {sample_seed(seed, name, sample) for seed in (0, 1) for name in ("p", "q") for sample in range(8)}
    assert len(seeds) == 32
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(0, "p", 1) == sample_seed(0, "p", 1)


class Counting(ToolBackend):
    """Adds what it is told to a total of the session."""

    stateful = True

    @property
    def specs(self):
        return (ToolSpec(name="count", description="Count."),)

    @contextmanager
    def session(self):
        total = 0

        def run(call):
            nonlocal total
            total += call.arguments["by"]
            return ToolResult(call_id=call.call_id, content=str(total))

        yield run


def episode(max_turns=3, max_tool_calls=2):
    prompt = Reference(
        reference_id="p", prompt=(Message(role="user", content="?"),), answer="", tools=(ToolSpec(name="count"),)
    )
    return Episode(
        reference=prompt,
        sample_index=0,
        toolbox=ToolBox([Counting()]),
        max_turns=max_turns,
        max_tool_calls=max_tool_calls,
    )


def counts(*amounts, first=0):
    calls = tuple(ToolCall(call_id=f"c{first + i}", name="count", arguments={"by": by}) for i, by in enumerate(amounts))
    return Message(role="assistant", tool_calls=calls)


def test_an_episode_of_messages_alone():
    loop = episode()
    calls = loop.take(counts(2, 3))
    loop.resume(loop.run_tools(calls))
    assert loop.stop_reason is None
    assert [message.content for message in loop.messages()] == ["?", "", "2", "5"]
    assert loop.take(Message(role="assistant", content="5")) == ()
    trajectory = loop.finish()
    assert (trajectory.stop_reason, trajectory.final_text) == (StopReason.ANSWERED, "5")


def test_calls_whose_results_were_looked_up_reach_the_tools_before_the_next_ones():
    loop = episode()
    (call,) = loop.take(counts(2))
    loop.resume([ToolResult(call_id=call.call_id, content="2")])
    calls = loop.take(counts(5, first=1))
    assert loop.run_tools(calls)[0].content == "7"


@pytest.mark.parametrize(
    ("limits", "message", "stop_reason", "expected"),
    [
        ({"max_tool_calls": 1}, counts(1, 1), None, StopReason.MAX_TOOL_CALLS),
        ({"max_turns": 1}, counts(1), None, StopReason.MAX_TURNS),
        ({"max_turns": 1}, Message(role="assistant", content="x"), None, StopReason.ANSWERED),
        ({}, counts(1), StopReason.MAX_CONTEXT, StopReason.MAX_CONTEXT),
    ],
)
def test_why_an_episode_ends(limits, message, stop_reason, expected):
    loop = episode(**limits)
    assert loop.take(message, stop_reason=stop_reason) == ()
    assert loop.finish().stop_reason is expected
