from dataclasses import replace

import pytest

from mentor_pl.errors import ConfigError, RewardError
from mentor_pl.reference import Reference
from mentor_pl.rewards.environment_score import EnvironmentScore
from mentor_pl.rewards.state_match import StateMatch
from mentor_pl.testing import trajectory
from mentor_pl.trajectory import StopReason


def expecting(state):
    return Reference(reference_id="r", prompt=(), answer="", tools=(), expected_state=state)


def ending_in(state):
    return replace(trajectory("done"), final_state=state)


@pytest.mark.parametrize(
    ("reached", "expected", "exact", "share"),
    [
        ({"a": 1, "b": [2, 3]}, {"b": [2.0, 3], "a": 1}, 1.0, 1.0),
        ({"a": 1, "b": [2, 4]}, {"a": 1, "b": [2, 3]}, 0.0, 2 / 3),
        ({"a": True}, {"a": 1}, 0.0, 0.0),
        ({"a": []}, {"a": {}}, 0.0, 0.0),
        ({"a": 1, "b": 2}, {"a": 1}, 0.0, 0.5),
        ([], [], 1.0, 1.0),
        (None, {"a": 1}, 0.0, 0.0),
    ],
)
def test_states_are_compared_as_json(reached, expected, exact, share):
    for mode, score in (("exact", exact), ("share", share)):
        assert StateMatch(mode).score(ending_in(reached), [expecting(expected)]) == pytest.approx(score)


def test_a_student_that_did_not_finish_has_reached_nothing():
    for reason in StopReason:
        reached = replace(trajectory("x", stop_reason=reason), final_state={"a": 1})
        assert StateMatch().score(reached, [expecting({"a": 1})]) == float(reached.finished)
        assert StateMatch(unfinished=True).score(reached, [expecting({"a": 1})]) == 1.0


def test_what_may_differ_is_ignored_at_any_depth_and_the_best_reference_counts():
    match = StateMatch(ignore=["time"])
    reached = ending_in({"orders": [{"id": 7, "time": 12}], "time": 3})
    assert match.score(reached, [expecting({"orders": []}), expecting({"orders": [{"id": 7, "time": 99}]})]) == 1.0


def test_nothing_expected_is_an_error_that_names_the_reference():
    with pytest.raises(RewardError, match="reference 'r' has no expected_state"):
        StateMatch().score(ending_in({}), [expecting(None)])
    with pytest.raises(ConfigError, match="mode is 'fuzzy'"):
        StateMatch("fuzzy")  # type: ignore[arg-type]


def test_the_environments_own_score_is_paid():
    assert EnvironmentScore().score(replace(trajectory("x"), environment_score=0.25), [expecting(None)]) == 0.25
    assert EnvironmentScore().score(trajectory("x", stop_reason=StopReason.INFRASTRUCTURE), [expecting(None)]) == 0.0
    with pytest.raises(RewardError, match="no score of its environment"):
        EnvironmentScore().score(trajectory("x"), [expecting(None)])
