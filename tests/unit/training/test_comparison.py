from dataclasses import replace

import pytest

from mentor_pl.advantages import GroupCentered
from mentor_pl.guidance import Guidance, Imitation, TeacherInGroup
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.testing import trajectory
from mentor_pl.training.comparison import GroupComparison
from mentor_pl.trajectory import StopReason, TrajectoryGroup
from tests.unit.training.samples import SAMPLED, sample

PROGRAM = RewardProgram(terms=[RewardTerm(name="correct", component=Correct("exact"), weight=1.0)])
REFERENCE = Reference(
    reference_id="r",
    prompt=(Message(role="user", content="?"),),
    answer="1",
    tools=(),
    messages=(Message(role="assistant", content="\\boxed{1}"),),
)
SOLUTION = sample([7], (SAMPLED, [1, 2]))
RIGHT, WRONG = trajectory("\\boxed{1}"), trajectory("\\boxed{2}")


def samples(guidance, *attempts, round_index=0, **settings):
    comparison = GroupComparison(
        reward=PROGRAM,
        advantages=GroupCentered(),
        guidance=guidance,
        solution=lambda r: SOLUTION if r.messages else None,
        **settings,
    )
    scored = PROGRAM.score_group(TrajectoryGroup(references=(REFERENCE,), trajectories=attempts))
    return [
        (s.source.name, s.weight, s.advantages[s.loss_mask].unique().tolist())
        for s in comparison.samples(scored, round_index)
    ]


def test_the_teacher_joins_a_group_that_fails():
    failed = Guidance(teacher_in_group=TeacherInGroup(weight=0.5))
    # Rewards 0, 0, and the teacher's 1: mean 1/3
    assert samples(failed, WRONG, WRONG) == [
        ("STUDENT", 1.0, [pytest.approx(-1 / 3)]),
        ("STUDENT", 1.0, [pytest.approx(-1 / 3)]),
        ("TEACHER", 0.5, [pytest.approx(2 / 3)]),
    ]
    assert [s[0] for s in samples(failed, WRONG, RIGHT)] == ["STUDENT", "STUDENT"]


def test_or_always_until_its_weight_is_gone():
    always = Guidance(teacher_in_group=TeacherInGroup(when="always", decay_rounds=2))
    assert samples(always, RIGHT, WRONG, round_index=1)[2] == ("TEACHER", 0.5, [pytest.approx(1 / 3)])
    assert [s[0] for s in samples(always, RIGHT, WRONG, round_index=2)] == ["STUDENT", "STUDENT"]


def test_imitation_stands_beside_the_group_and_does_not_change_it():
    assert samples(Guidance(imitation=Imitation(weight=0.2)), RIGHT, WRONG) == [
        ("STUDENT", 1.0, [0.5]),
        ("STUDENT", 1.0, [-0.5]),
        ("IMITATED", pytest.approx(0.2), [1.0]),
    ]


def test_truncated_attempts_count_in_their_group_but_are_not_trained_on():
    cut = replace(WRONG, stop_reason=StopReason.MAX_TURNS)
    assert samples(Guidance(), RIGHT, cut, mask_truncated=True) == [("STUDENT", 1.0, [0.5])]
    assert samples(Guidance(), RIGHT, cut) == [("STUDENT", 1.0, [0.5]), ("STUDENT", 1.0, [-0.5])]
