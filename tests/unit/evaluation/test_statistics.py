import pytest

from mentor_pl.engines.base import EngineStatistics
from mentor_pl.evaluation.rollout_metrics import group_metrics, work_metrics
from mentor_pl.rewards.program import ScoredGroup
from mentor_pl.trajectory import StopReason
from tests.unit.evaluation.attempts import group, trajectory


def scored_group(attempts, rewards):
    return ScoredGroup(
        group=group(*attempts),
        rewards=rewards,
        scores={"correct": tuple(float(reward > 0.5) for reward in rewards)},
        exits=(None,) * len(rewards),
    )


def test_statistics_of_two_groups():
    groups = [
        scored_group([trajectory("add sqrt", "5", num_tokens=4, failed=(1,)), trajectory("add", "5")], (1.1, 0.1)),
        scored_group([trajectory("", "5"), trajectory("add", "", stop_reason=StopReason.MAX_TURNS)], (0.1, 0.1)),
    ]
    found = group_metrics(groups)
    stops = {name: found.pop(name) for name in list(found) if name.startswith("stop/")}
    assert found == pytest.approx(
        {
            "reward": 1.4 / 4,
            "score/correct": 1 / 4,
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
    assert group_metrics([scored_group([trajectory("", "5")], (0.1,))])["tool_ok"] == 0.0


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
