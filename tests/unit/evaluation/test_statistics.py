from dataclasses import replace

import pytest

from mentor_pl.engines.base import EngineStatistics
from mentor_pl.evaluation.rollout_metrics import rollout_sums, work_metrics
from mentor_pl.rewards.correct import Correct
from mentor_pl.rewards.program import RewardProgram, RewardTerm, ScoredGroup
from mentor_pl.trajectory import StopReason
from tests.unit.evaluation.attempts import group, trajectory


def of_environment(name, scored):
    (reference, *others) = scored.group.references
    references = (replace(reference, environment=name), *others)
    return replace(scored, group=replace(scored.group, references=references))


def scored_group(attempts, rewards, term="correct"):
    return ScoredGroup(
        group=group(*attempts),
        rewards=rewards,
        scores={term: tuple(float(reward > 0.5) for reward in rewards)},
        exits=(None,) * len(rewards),
    )


PROGRAM = RewardProgram(terms=[RewardTerm(name="correct", component=Correct(), weight=1.0)])


def means(groups, rewards=PROGRAM):
    return {name: total / count for name, (total, count) in rollout_sums(groups, rewards).items() if count}


def test_statistics_of_two_groups():
    groups = [
        scored_group([trajectory("add sqrt", "5", num_tokens=4, failed=(1,)), trajectory("add", "5")], (1.1, 0.1)),
        scored_group([trajectory("", "5"), trajectory("add", "", stop_reason=StopReason.MAX_TURNS)], (0.1, 0.1)),
    ]
    found = means(groups)
    stops = {name: found.pop(name) for name in list(found) if name.startswith("stop/")}
    assert found == pytest.approx(
        {
            "reward": 1.4 / 4,
            "score/correct": 1 / 4,
            "success": 1 / 4,
            "tool_calls": 4 / 4,
            "turns": (2 + 2 + 1 + 2) / 4,
            "completion_tokens": (5 + 2 + 1 + 2) / 4,
            "tool_ok": 3 / 4,
            "uniform_groups": 1 / 2,
        }
    )
    expected = {f"stop/{reason.value}": 0.0 for reason in StopReason}
    assert stops == expected | {"stop/answered": 3 / 4, "stop/max_turns": 1 / 4}


def test_no_tool_has_run():
    assert rollout_sums([scored_group([trajectory("", "5")], (0.1,))], PROGRAM)["tool_ok"] == (0.0, 0.0)


def test_ranks_that_call_differently_often_count_by_their_calls():
    """Three calls of which one fails here, and one that succeeds there: three of four, not the mean of 2/3 and 1."""
    here = [scored_group([trajectory("add sqrt add", "5", failed=(1,))], (0.1,))]
    there = [scored_group([trajectory("add", "5")], (0.1,))]
    sums = [rollout_sums(groups, PROGRAM)["tool_ok"] for groups in (here, there)]
    assert sums == [(2.0, 3.0), (1.0, 1.0)]


def test_success_is_what_each_environment_means():
    shop = RewardProgram(terms=[RewardTerm(name="state", component=Correct(), weight=1.0, success=True)])
    none = RewardProgram(terms=[RewardTerm(name="judge", component=Correct(), weight=1.0)])
    groups = [
        of_environment("maths", scored_group([trajectory("", "5"), trajectory("", "5")], (1.0, 0.0))),
        of_environment("shop", scored_group([trajectory("", "5")], (1.0,), "state")),
    ]
    found = means(groups, {"maths": PROGRAM, "shop": shop})
    assert found["success"] == pytest.approx(2 / 3)
    assert (found["maths/success"], found["shop/success"], found["shop/score/state"]) == (0.5, 1.0, 1.0)
    assert "score/correct" not in found
    told = rollout_sums(groups[:1], {"maths": PROGRAM, "shop": none})
    assert "success" not in told and "shop/success" not in told and told["shop/reward"] == (0.0, 0.0)


def test_what_a_rollout_computed():
    groups = [group(trajectory("add sqrt", "5", call_s=0.25), trajectory("", "5"))]
    engine = EngineStatistics(prefill_tokens=30, row_steps=40, sampled_tokens=10)
    assert work_metrics(groups, engine, rollout_s=4.0) == {
        "time/tools_s": 0.5,
        "engine/sampled_tokens": 10.0,
        "engine/prefill_tokens": 30.0,
        "engine/useful_share": 0.25,
        "engine/tokens_per_s": 2.5,
    }
