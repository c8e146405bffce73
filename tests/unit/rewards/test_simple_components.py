import pytest

from mentor_pl.messages import Message, ToolCall, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.rewards.answered import Answered
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.finished import Finished
from mentor_pl.rewards.known_tools import KnownTools
from mentor_pl.rewards.readable import Readable
from mentor_pl.rewards.teacher_used_tools import TeacherUsedTools
from mentor_pl.testing import check_reward_component, trajectory
from mentor_pl.trajectory import StopReason

ADD = ToolCall(call_id="0", name="add")
MADE_UP = ToolCall(call_id="1", name="Add")
WITH_CALL = Reference(
    reference_id="r",
    prompt=(Message(role="user", content="?"),),
    answer="1",
    tools=(ToolSpec(name="add"),),
    tool_calls=(ADD,),
)
WITHOUT_CALL = Reference(reference_id="s", prompt=WITH_CALL.prompt, answer="1", tools=WITH_CALL.tools)


@pytest.mark.parametrize(
    "component", [Answered(), Answered("text"), Finished(), KnownTools(), Readable(), TeacherUsedTools()]
)
def test_they_keep_the_contract(component: RewardComponent) -> None:
    check_reward_component(component)


@pytest.mark.parametrize("reason", StopReason)
def test_only_an_answer_of_its_own_finishes(reason: StopReason) -> None:
    assert Finished().score(trajectory("x", stop_reason=reason), [WITH_CALL]) == (
        reason in (StopReason.ANSWERED, StopReason.CALLED)
    )


def test_an_answer_right_or_wrong_is_an_answer() -> None:
    assert Answered().score(trajectory("\\boxed{999}"), [WITH_CALL]) == 1.0
    assert Answered().score(trajectory("999"), [WITH_CALL]) == 0.0
    assert Answered("text").score(trajectory("999"), [WITH_CALL]) == 1.0


def test_one_unknown_tool_is_one_too_many() -> None:
    assert KnownTools().score(trajectory(""), [WITH_CALL]) == 1.0
    assert KnownTools().score(trajectory("", ADD, ADD), [WITH_CALL]) == 1.0
    assert KnownTools().score(trajectory("", ADD, MADE_UP), [WITH_CALL]) == 0.0


def test_malformed_arguments_of_a_known_tool_make_up_no_tool() -> None:
    malformed = ToolCall(call_id="2", name="add", parse_error="the arguments are not JSON")
    assert KnownTools().score(trajectory("", malformed), [WITH_CALL]) == 1.0


def test_what_is_broken_or_cut_off_cannot_be_read() -> None:
    malformed = ToolCall(call_id="2", name="add", parse_error="the arguments are not JSON")
    assert Readable().score(trajectory("", malformed, ADD), [WITH_CALL]) == 0.0
    assert Readable().score(trajectory("", MADE_UP), [WITH_CALL]) == 1.0  # made up, and yet readable
    cut = {reason for reason in StopReason if not Readable().score(trajectory("x", stop_reason=reason), [WITH_CALL])}
    assert cut == {"max_completion_tokens", "max_thinking_tokens", "max_context", "forged_role"}


def test_one_reference_with_a_call_is_a_teacher_to_follow() -> None:
    assert TeacherUsedTools().score(trajectory("", ADD), [WITHOUT_CALL]) == 0.0
    assert TeacherUsedTools().score(trajectory(""), [WITHOUT_CALL, WITH_CALL]) == 1.0
