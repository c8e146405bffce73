"""Advantages turn by turn, worked out by hand."""

import pytest
from torch import tensor

from mentor_pl.advantages import MTGRPO, GiGPO, GroupCentered, GroupRewards, TeacherAligned
from mentor_pl.messages import Message, ToolCall, ToolResult, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn


def call(name, **arguments):
    return ToolCall(call_id="c", name=name, arguments=arguments)


def attempt(*turns):
    """Turns of (call, whether it succeeded), and an answer."""
    done = [
        Turn(
            completion=Completion(),
            message=Message(role="assistant", tool_calls=(made,)),
            tool_results=(ToolResult(call_id="c", content="1", status=ToolStatus.OK if ok else ToolStatus.ERROR),),
        )
        for made, ok in turns
    ]
    answer = Turn(completion=Completion(), message=Message(role="assistant", content="\\boxed{1}"))
    return Trajectory(reference_id="r", turns=(*done, answer), stop_reason=StopReason.ANSWERED)


def group(rewards, attempts, teachers=()):
    prompt = (Message(role="user", content="?"),)
    return GroupRewards(
        rewards=tensor(rewards),
        scores=tensor([[r] for r in rewards]),
        weights=tensor([1.0]),
        trajectories=tuple(attempts),
        references=tuple(
            Reference(reference_id="r", prompt=prompt, answer="1", tools=(), tool_calls=tuple(calls))
            for calls in teachers
        ),
    )


def per_turn(estimator, *given):
    return [pytest.approx(row) for row in estimator.per_turn(group(*given))]


ADD, SUB, MUL = call("add", a=1), call("subtract", a=1), call("multiply", a=1)


def test_by_default_every_turn_has_its_trajectorys_advantage():
    attempts = [attempt((ADD, True)), attempt()]
    assert GroupCentered().per_turn(group([1.0, 0.0], attempts)) == [[0.5, 0.5], [-0.5]]


def test_gigpo_compares_turns_taken_in_the_same_state():
    # The first turn of all three is taken in one state; the second turns of the first two (after `add`) in another; after `subtract`
    # the third is alone.
    attempts = [attempt((ADD, True), (MUL, True)), attempt((ADD, True)), attempt((SUB, True))]
    rewards = [1.0, 0.0, 0.5]
    estimator = GiGPO(weight=1.0, discount=0.5, divide_by="none")
    # Outcomes: 0.5, -0.5, 0. Returns of first turns: 1/4, 0, 1/4, mean 1/6. Of second ones after `add`: 1/2, 0, mean 1/4.
    assert per_turn(estimator, rewards, attempts) == [
        [0.5 + 1 / 12, 0.5 + 1 / 4, 0.5],
        [-0.5 - 1 / 6, -0.5 - 1 / 4],
        [1 / 12, 0.0],
    ]
    # By the std, and with half the weight: two values d and -d become sqrt(1/2) and -sqrt(1/2).
    two = GiGPO(weight=0.5, discount=1.0).per_turn(group([1.0, 0.0], [attempt((ADD, True)), attempt((SUB, True))]))
    root = 0.5**0.5
    assert two == [pytest.approx([1.5 * root, root]), pytest.approx([-1.5 * root, -root])]


def test_mt_grpo_judges_turns_by_their_results():
    # Outcomes sqrt(1/2), -sqrt(1/2); the first call succeeds in the second attempt only.
    attempts = [attempt((ADD, False)), attempt((ADD, True))]
    root = 0.5**0.5
    assert per_turn(MTGRPO(weight=0.5), [1.0, 0.0], attempts) == [[-0.5 * root, root], [0.5 * root, -root]]


def test_where_all_results_are_alike_the_outcome_alone_counts():
    attempts = [attempt((ADD, True)), attempt((SUB, True), (ADD, True))]
    root = 0.5**0.5
    assert per_turn(MTGRPO(), [1.0, 0.0], attempts) == [[root, root], [-root, -root, -root]]


def test_teacher_aligned_spares_a_good_call_in_a_bad_trajectory():
    teacher = [ADD, MUL]
    attempts = [
        attempt((ADD, True), (MUL, True)),  # 1, 1
        attempt((ADD, True), (SUB, True)),  # 1, 0
        attempt((call("add", a=2), True), (MUL, False)),  # 1/2, 0
        attempt((ADD, True), (ADD, True)),  # 1, 0: the teacher's one is used up
    ]
    mean = 4.5 / 8
    outcome = [1.5, -0.5, -0.5, -0.5]  # std of 1, 0, 0, 0 is 1/2, mean 1/4
    expected = [
        [1.5 + 1 - mean, 1.5 + 1 - mean, 1.5],
        [max(-0.5 + 1 - mean, 0.0), -0.5 - mean, -0.5],
        [-0.5 + 0.5 - mean, -0.5 - mean, -0.5],
        [max(-0.5 + 1 - mean, 0.0), -0.5 - mean, -0.5],
    ]
    rewards = [1.0, 0.0, 0.0, 0.0]
    assert per_turn(TeacherAligned(weight=1.0), rewards, attempts, [teacher]) == expected
    blamed = TeacherAligned(weight=1.0, spare_agreeing=False).per_turn(group(rewards, attempts, [teacher]))
    assert blamed[1][0] == pytest.approx(outcome[1] + 1 - mean)


def test_the_reference_that_agrees_best_counts_and_none_leaves_the_outcome():
    attempts = [attempt((ADD, True)), attempt((SUB, True))]
    root = 0.5**0.5
    both = per_turn(TeacherAligned(weight=1.0), [1.0, 0.0], attempts, [[ADD], [SUB]])
    assert both == [[root, root], [0.0, -root]]  # both turns agree: mean 1; the second is spared
    assert per_turn(TeacherAligned(), [1.0, 0.0], attempts, []) == [[root, root], [-root, -root]]
