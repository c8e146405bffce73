from contextlib import contextmanager

import pytest

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.rollout.agent_loop import Episode, Response
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.student_episode import Step, StudentEpisode, sample_seed
from mentor_pl.rollout.user import User
from mentor_pl.students.chat_template import read_chat_template
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Completion, StopReason
from tests.unit.chat.byte_tokenizers import CHATML, byte_tokenizer


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
    def session(self, reference=None):
        total = 0

        def run(call):
            nonlocal total
            total += call.arguments["by"]
            return ToolResult(call_id=call.call_id, content=str(total))

        yield ToolSession(run=run)


def episode(max_turns=3, max_tool_calls=2, follow_ups=(), user=None, **box):
    prompt = Reference(
        reference_id="p",
        prompt=(Message(role="user", content="?"),),
        answer="",
        tools=(ToolSpec(name="count"),),
        follow_ups=follow_ups,
    )
    return Episode(
        reference=prompt,
        sample_index=0,
        toolbox=ToolBox([Counting()], **box),
        max_turns=max_turns,
        max_tool_calls=max_tool_calls,
        user=user,
    )


def counts(*amounts, first=0):
    calls = tuple(ToolCall(call_id=f"c{first + i}", name="count", arguments={"by": by}) for i, by in enumerate(amounts))
    return Message(role="assistant", tool_calls=calls)


def test_an_episode_of_messages_alone():
    loop = episode()
    assert loop.take(counts(2, 3))
    loop.resume(loop.respond())
    assert loop.stop_reason is None
    assert [message.content for message in loop.messages()] == ["?", "", "2", "5"]
    assert not loop.take(Message(role="assistant", content="5"))
    trajectory = loop.finish()
    assert (trajectory.stop_reason, trajectory.final_text) == (StopReason.ANSWERED, "5")


def test_calls_whose_results_were_looked_up_reach_the_tools_before_the_next_ones():
    loop = episode()
    loop.take(counts(2))
    loop.resume(Response(results=(ToolResult(call_id="c0", content="2"),)), looked_up=True)
    loop.take(counts(5, first=1))
    assert loop.respond().results[0].content == "7"


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
    assert not loop.take(message, stop_reason=stop_reason)
    assert loop.finish().stop_reason is expected


def says(text):
    return Message(role="assistant", content=text)


def test_the_user_goes_on_once_the_student_has_answered():
    loop = episode(follow_ups=("And twice that?",))
    assert loop.take(says("5"))
    assert not loop.is_slow()
    loop.resume(loop.respond())
    assert [(m.role, m.content) for m in loop.messages()[1:]] == [("assistant", "5"), ("user", "And twice that?")]
    assert not loop.take(says("10"))
    trajectory = loop.finish()
    assert (trajectory.stop_reason, trajectory.final_text) == (StopReason.ANSWERED, "10")
    assert [turn.follow_up for turn in trajectory.turns] == ["And twice that?", None]


def test_follow_ups_count_as_turns():
    loop = episode(follow_ups=("Again.",), max_turns=1)
    assert not loop.take(says("5"))
    assert loop.finish().stop_reason is StopReason.MAX_TURNS


class Impatient(User):
    def reply(self, reference, messages):
        return "Hurry." if messages[-1].content == "Wait." else None


def test_a_simulated_user_speaks_behind_the_follow_ups_and_ends_the_trajectory():
    loop = episode(max_turns=5, follow_ups=("First.",), user=Impatient())
    loop.take(says("Hm."))
    loop.resume(loop.respond())
    loop.take(says("Wait."))
    assert loop.is_slow()
    loop.resume(loop.respond())
    assert loop.stop_reason is None
    loop.take(says("Here."))
    loop.resume(loop.respond())
    trajectory = loop.finish()
    assert [turn.follow_up for turn in trajectory.turns] == ["First.", "Hurry.", None]
    assert trajectory.stop_reason is StopReason.ANSWERED


def test_a_final_tool_ends_the_trajectory_with_its_arguments_as_the_answer():
    loop = episode(final_tools=["count"])
    loop.take(counts(3))
    loop.resume(loop.respond())
    trajectory = loop.finish()
    assert (trajectory.stop_reason, trajectory.finished) == (StopReason.CALLED, True)
    assert trajectory.submission == {"by": 3}


def test_a_final_tool_hands_the_answer_in_in_the_last_turn_too():
    for amounts, reason, submission in (((3,), "called", {"by": 3}), (("x",), "max_turns", None)):
        loop = episode(max_turns=1, final_tools=["count"])
        message = counts(*amounts)
        if reason == "max_turns":
            message = Message(role="assistant", tool_calls=(ToolCall(call_id="c0", name="count", parse_error="no"),))
        assert loop.take(message)
        loop.resume(loop.respond())
        trajectory = loop.finish()
        assert (trajectory.stop_reason, trajectory.submission) == (reason, submission)
        assert len(trajectory.tool_results) == 1  # others of the turn may have run


def test_a_malformed_call_of_a_final_tool_hands_nothing_in():
    loop = episode(final_tools=["count"])
    loop.take(Message(role="assistant", tool_calls=(ToolCall(call_id="c0", name="count", parse_error="not JSON"),)))
    loop.resume(loop.respond())
    assert loop.stop_reason is None


@pytest.mark.parametrize(("limit", "reason"), [(18, StopReason.ANSWERED), (17, StopReason.MAX_THINKING_TOKENS)])
def test_thought_has_a_budget_of_its_own(limit, reason):
    protocol = ChatProtocol(byte_tokenizer(read_chat_template("hermes"), CHATML))
    student = StudentEpisode(
        index=0,
        episode=episode(),
        seed=0,
        prompt_ids=(1, 2),
        protocol=protocol,
        limits=RolloutLimits(max_thinking_tokens=limit),
        max_context=512,
    )
    step = student.advance(Completion(token_ids=(*b"<think>2+3</think>5", 257)))  # a byte is a token
    assert step is Step.NOTHING
    assert (student.stop_reason, student.message.content, student.message.reasoning) == (reason, "5", "2+3")
