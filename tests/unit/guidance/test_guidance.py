import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.guidance import DynamicSampling, Guidance, Hints, Imitation, TeacherInGroup
from mentor_pl.guidance.decay import remaining
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import Reference
from mentor_pl.rewards.finished import Finished
from mentor_pl.rewards.program import RewardProgram, RewardTerm


def call(number: int) -> ToolCall:
    return ToolCall(call_id=str(number), name="add", arguments={"a": number})


def reference(*turns: list[ToolCall]) -> Reference:
    messages = []
    for calls in turns:
        messages.append(Message(role="assistant", content="so", tool_calls=tuple(calls)))
        messages += [Message(role="tool", content="1", tool_call_id=c.call_id) for c in calls]
    messages.append(Message(role="assistant", content="\\boxed{1}"))
    return Reference(
        reference_id="r", prompt=(Message(role="user", content="?"),), answer="1", tools=(), messages=tuple(messages)
    )


def given(hints: Hints, reference: Reference, round_index: int = 0) -> list[list[str]]:
    return [[c.call_id for c in m.tool_calls] for m in hints.given([reference], round_index)]


def test_what_is_left_falls_linearly():
    assert [remaining(i, 4) for i in (0, 1, 4, 9)] == [1.0, 0.75, 0.0, 0.0]
    assert remaining(99, None) == 1.0
    assert Imitation(weight=0.2, decay_rounds=4).weight_at(1) == pytest.approx(0.15)
    assert TeacherInGroup(weight=2.0).weight_at(7) == 2.0


def test_a_hint_is_the_first_calls_turn_by_turn():
    stepwise, parallel = reference([call(1)], [call(2)], [call(3)]), reference([call(1), call(2), call(3)])
    assert given(Hints(share=0.5), stepwise) == [["1"], ["2"]]  # 1.5 of 3, rounded up
    assert given(Hints(share=0.5), parallel) == [["1", "2"]]
    assert given(Hints(share=1.0), reference([call(1), call(2)], [call(3)])) == [["1", "2"], ["3"]]
    assert given(Hints(share=1.0), reference()) == []


def test_hints_become_fewer():
    stepwise = reference([call(1)], [call(2)], [call(3)], [call(4)])
    assert [len(given(Hints(share=1.0, decay_rounds=4), stepwise, i)) for i in range(6)] == [4, 3, 2, 1, 0, 0]


def test_substitutes_are_other_prompts_and_each_stands_once():
    dynamic = DynamicSampling(max_refills=2)
    drawn = [5, 1, 7]
    substitutes = dynamic.substitutes(drawn, [""] * 12, seed=0, round_index=3)
    flat = [i for place in substitutes for i in place]
    assert [len(place) for place in substitutes] == [2, 2, 2]
    assert len(set(flat)) == 6 and not set(flat) & set(drawn) and set(flat) <= set(range(12))
    assert substitutes == dynamic.substitutes(drawn, [""] * 12, seed=0, round_index=3)
    assert substitutes != dynamic.substitutes(drawn, [""] * 12, seed=0, round_index=4)
    assert [len(place) for place in dynamic.substitutes([0, 1, 2], [""] * 5, seed=0, round_index=0)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("replace", "solved", "failed"), [("both", True, True), ("solved", True, False), ("failed", False, True)]
)
def test_which_groups_hold_no_signal(replace, solved, failed):
    dynamic = DynamicSampling(replace=replace)
    assert dynamic.without_signal([True, True]) is solved
    assert dynamic.without_signal([False, False]) is failed
    assert not dynamic.without_signal([True, False])


def test_success_must_be_a_term():
    program = RewardProgram(terms=[RewardTerm(name="done", component=Finished(), weight=1.0)])
    with pytest.raises(ConfigError, match="no term of a reward program says so; the terms are done"):
        Guidance(hints=Hints()).check(program)
    Guidance(hints=Hints(), success="done").check(program)
    Guidance(imitation=Imitation()).check(program)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TeacherInGroup(weight=0), "teacher_in_group: weight 0"),
        (lambda: Imitation(decay_rounds=0), "imitation: .* decay_rounds 0"),
        (lambda: Hints(share=1.5), "hints: .* share 1.5"),
        (lambda: DynamicSampling(max_refills=0), "max_refills 0"),
        (lambda: DynamicSampling(replace="some"), "replace 'some'"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
