from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mentor_pl.errors import ConfigError, RewardError
from mentor_pl.evaluation.rollout_metrics import rollout_sums
from mentor_pl.messages import Message, ToolCall
from mentor_pl.reference import Reference
from mentor_pl.rewards.base import NoScore, RewardComponent
from mentor_pl.rewards.explanation import explain
from mentor_pl.rewards.finished import Finished
from mentor_pl.rewards.program import RewardExit, RewardProgram, RewardTerm
from mentor_pl.testing import trajectory
from mentor_pl.trajectory import StopReason, Trajectory, TrajectoryGroup

REFERENCE = Reference(reference_id="gsm-17", prompt=(Message(role="user", content="?"),), answer="1", tools=())


class Says(RewardComponent):
    """Scores what stands in the text, as `name=score`."""

    def __init__(self, name: str = "a") -> None:
        self.name = name

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return float(dict(item.split("=") for item in trajectory.final_text.split())[self.name])


class Gives(RewardComponent):
    """Scores whatever it was given; an exception is raised."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Miscounts(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return 1.0

    def score_group(self, group: TrajectoryGroup) -> list[float]:
        return [1.0]


def group(*texts: str, stop_reason: StopReason = StopReason.ANSWERED) -> TrajectoryGroup:
    return TrajectoryGroup(
        references=(REFERENCE,), trajectories=tuple(trajectory(text, stop_reason=stop_reason) for text in texts)
    )


def term(name: str, weight: float = 1.0, **rest: Any) -> RewardTerm:
    return RewardTerm(name=name, component=rest.pop("component", Says(name)), weight=weight, **rest)


def test_terms_add_up_and_a_gate_scales() -> None:
    program = RewardProgram(terms=[term("a", 0.7), term("b", 0.3, gate="a", gate_floor=0.2), term("c", -0.5)])
    scored = program.score_group(group("a=1 b=1 c=0", "a=0 b=1 c=0", "a=0.5 b=0.5 c=1", "a=1 b=0 c=0"))
    # 0.7 + 0.3;  0.3 * 0.2;  0.35 + 0.3 * 0.5 * (0.2 + 0.8 * 0.5) - 0.5;  0.7
    assert scored.rewards == pytest.approx((1.0, 0.06, -0.06, 0.7), abs=1e-12)
    assert scored.scores == {"a": (1.0, 0.0, 0.5, 1.0), "b": (1.0, 1.0, 0.5, 0.0), "c": (0.0, 0.0, 1.0, 0.0)}
    assert scored.exits == (None,) * 4


def test_sums_are_free_of_rounding_noise() -> None:
    program = RewardProgram(terms=[term("a", 0.7), term("b", 0.3), term("c", 0.1)])
    assert program.score_group(group("a=1 b=1 c=1")).rewards == (1.1,)  # 0.7 + 0.3 + 0.1 in floats is 1.0999...


def test_a_gate_may_stand_after_what_it_gates_and_be_gated_itself() -> None:
    program = RewardProgram(terms=[term("a", gate="b"), term("b", gate="c"), term("c")])
    # the gate's score counts, not what the gate itself is paid: 0.5 * 0.4 + 0.4 * 0.2 + 0.2
    assert program.score_group(group("a=0.5 b=0.4 c=0.2")).rewards == pytest.approx((0.48,))


def test_the_first_exit_taken_decides_alone_and_scores_stay_visible() -> None:
    program = RewardProgram(
        exits=[RewardExit(unless=Finished(), reward=-1.0), RewardExit(unless=Says("b"), reward=0.1)],
        terms=[term("a", 2.0)],
    )
    assert program.score_group(group("a=1 b=0", "a=1 b=0.01")).rewards == (0.1, 2.0)
    cut = program.score_group(group("a=1 b=0", stop_reason=StopReason.MAX_TURNS))
    assert (cut.rewards, cut.exits, cut.scores) == ((-1.0,), ("unless Finished",), {"a": (1.0,)})


def test_a_component_may_judge_a_group_at_once() -> None:
    class Best(RewardComponent):
        def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
            return 1.0

        def score_group(self, group: TrajectoryGroup) -> list[float]:
            longest = max(len(t.final_text) for t in group.trajectories)
            return [float(len(t.final_text) == longest) for t in group.trajectories]

    assert RewardProgram(terms=[term("best", component=Best())]).score_group(group("x", "xxx", "xx")).rewards == (
        0,
        1,
        0,
    )


def test_terms_that_need_a_teacher_drop_out_without_one_and_the_rest_is_renormalised() -> None:
    terms = [
        term("a", 0.7),
        term("b", 0.3, gate="a", gate_floor=0.2),
        term("c", 0.1),
        term("d", -0.2),
    ]
    text = "a=1 b=1 c=1 d=0.5"
    unguided = RewardProgram(terms=terms, need_teacher=["b"])
    # Without b, 0.8 of the positive weight of 1.1 is left: everything grows by 1.1 / 0.8 = 1.375, the penalty too.
    assert unguided.score_group(group(text, "a=0 b=1 c=1 d=0")).rewards == (0.9625, 0.1375)  # 1.375 * 0.7, 1.375 * 0.1
    assert "b: score 1 x weight 0.3, gated on a with floor 0.2 = +0" in str(
        explain(unguided, trajectory(text), [REFERENCE])
    )
    # With a teacher, and where nothing is named, all terms count as they are.
    call = ToolCall(call_id="call_0", name="add")
    guided = TrajectoryGroup(
        references=(REFERENCE, replace(REFERENCE, tool_calls=(call,))), trajectories=(trajectory(text),)
    )
    assert unguided.score_group(guided).rewards == RewardProgram(terms=terms).score_group(group(text)).rewards == (1.0,)


def test_explain_says_how_a_reward_comes_about() -> None:
    program = RewardProgram(
        exits=[RewardExit(unless=Finished(), reward=0.0)],
        terms=[term("a", 0.7), term("b", 0.3, gate="a", gate_floor=0.2)],
    )
    assert str(explain(program, trajectory("a=0 b=1", reference_id="gsm-17"), [REFERENCE])) == (
        "gsm-17: reward 0.06\n"
        "  a: score 0 x weight 0.7 = +0\n"
        "  b: score 1 x weight 0.3, gated on a with floor 0.2 = +0.06"
    )
    cut = trajectory("a=1 b=1", stop_reason=StopReason.MAX_TURNS)
    assert str(explain(program, cut, [REFERENCE])).splitlines()[:2] == [
        "r: reward 0",
        "  left by the exit 'unless Finished'; the terms do not count",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RewardProgram(terms=[]), "no terms; give it at least one"),
        (
            lambda: RewardProgram(terms=[term("a"), term("a")]),
            "2 reward terms are named 'a'; give every term its own name",
        ),
        (
            lambda: RewardProgram(terms=[term("a", gate="z"), term("b")]),
            "reward term 'a': its gate 'z' is not a term; the terms are a, b",
        ),
        (lambda: RewardProgram(terms=[term("a", gate="a")]), "gates go round in a circle, a -> a; drop one"),
        (
            lambda: RewardProgram(terms=[term("a", gate="b"), term("b", gate="c"), term("c", gate="b")]),
            "gates go round in a circle, a -> b -> c -> b; drop one",
        ),
        (
            lambda: RewardProgram(terms=[term("a"), term("b")], need_teacher=["z"]),
            "need_teacher names 'z', which is not a term; the terms are a, b",
        ),
        (
            lambda: RewardProgram(terms=[term("a", gate="b"), term("b")], need_teacher=["b"]),
            "reward term 'a': its gate 'b' drops out where there is no teacher; add 'a' to need_teacher",
        ),
        (
            lambda: RewardProgram(terms=[term("a"), term("b", -1.0)], need_teacher=["a"]),
            "need_teacher is a: no term with a positive weight is left",
        ),
        (lambda: term("a", gate="b", gate_floor=1.5), r"reward term 'a': gate_floor is 1.5; it must lie in \[0, 1\]"),
        (lambda: term("a", gate_floor=0.5), "gate_floor is 0.5 but there is no gate; name one or drop gate_floor"),
        (lambda: term("a", float("nan")), "reward term 'a': weight is nan; it must be a finite number"),
        (lambda: term(" ", component=Says()), "a reward term with Says has an empty name; give it one"),
        (lambda: term("a", component="Says"), "reward term 'a': component is 'Says'; it must be a RewardComponent"),
        (
            lambda: RewardExit(unless=Finished(), reward=float("inf")),
            "reward exit 'unless Finished': reward is inf; it must be a finite number",
        ),
    ],
)
def test_contradictions_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("value", [1.7, -0.1, float("nan"), None, "high"])
def test_what_is_no_score_is_refused(value: Any) -> None:
    program = RewardProgram(terms=[term("brevity", component=Gives(value))])
    with pytest.raises(RewardError) as refused:
        program.score_group(group("x"))
    assert str(refused.value) == (
        f"reward term 'brevity' (Gives) returned {value!r} for reference 'gsm-17', sample 0; scores must be numbers in [0, 1]"
    )


def test_a_component_that_raises_is_named() -> None:
    program = RewardProgram(terms=[term("a")], exits=[RewardExit(unless=Gives(KeyError("colour")), reward=0.0)])
    with pytest.raises(RewardError) as refused:
        program.score_group(group("a=1"))
    assert str(refused.value) == (
        "unless Gives (Gives) raised KeyError for reference 'gsm-17': 'colour'; a component must score whatever a student wrote"
    )


def test_a_component_that_miscounts_is_named() -> None:
    with pytest.raises(
        RewardError, match="'m' .Miscounts. returned 1 scores for the 2 trajectories of reference 'gsm-17'"
    ):
        RewardProgram(terms=[term("m", component=Miscounts())]).score_group(group("x", "y"))


class Fails(RewardComponent):
    def score(self, trajectory: Trajectory, references: Sequence[Reference]) -> float:
        return 1.0

    def score_group(self, group: TrajectoryGroup) -> Sequence[float | NoScore]:
        return [NoScore(reason="the server is gone") if "lost" in t.final_text else 1.0 for t in group.trajectories]


def test_a_score_that_is_not_there_is_no_zero() -> None:
    program = RewardProgram(terms=[term("judge", component=Fails()), term("one", component=Gives(1.0))])
    scored = program.score_group(group("lost", "here"))
    assert scored.rewards[1] == 2.0
    assert [t.failed_infrastructure for t in scored.group.trajectories] == [True, False]
    assert scored.to_row(0) == {"reward": None, "scores": {"judge": None, "one": 1.0}}
    assert rollout_sums([scored], program)["reward"] == (2.0, 1.0)


def test_who_left_by_an_exit_needs_no_judge() -> None:
    exit_ = RewardExit(unless=Finished(), reward=0.5)
    program = RewardProgram(terms=[term("judge", component=Fails())], exits=[exit_])
    scored = program.score_group(group("lost", stop_reason=StopReason.MAX_TURNS))
    assert scored.rewards == (0.5,)
    assert not scored.group.trajectories[0].failed_infrastructure


def test_one_term_at_most_is_the_success() -> None:
    assert RewardProgram(terms=[term("a"), term("b", success=True)]).success_term == "b"
    assert RewardProgram(terms=[term("a"), term("correct")]).success_term == "correct"
    assert RewardProgram(terms=[term("a")]).success_term is None
    with pytest.raises(ConfigError, match="success is true for the reward terms a, b; say it of one"):
        RewardProgram(terms=[term("a", success=True), term("b", success=True)])
