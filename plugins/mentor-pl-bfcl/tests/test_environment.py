"""The leaderboard as an environment, and its columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mentor_pl.cli.parser import build
from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.split import SplitMetrics
from mentor_pl.evaluation.teacher import teacher_groups
from mentor_pl.messages import ToolCall
from mentor_pl.rewards.program import RewardProgram
from mentor_pl.testing import check_environment, check_trajectory_metric, trajectory
from mentor_pl.trajectory import TrajectoryGroup

pytest.importorskip("bfcl_eval")

from mentor_pl_bfcl.cases import cases_of  # noqa: E402
from mentor_pl_bfcl.environment import BFCL  # noqa: E402
from mentor_pl_bfcl.leaderboard import BFCLColumns, columns  # noqa: E402
from mentor_pl_bfcl.references import references_of  # noqa: E402


def test_it_keeps_the_contract() -> None:
    found = check_environment(BFCL(categories=["multiple", "irrelevance", "live_relevance"], max_cases=5))
    assert [reference.domain for reference in found] == ["multiple"] * 5 + ["irrelevance"] * 5 + ["live_relevance"] * 5
    check_environment(BFCL(categories=["multi_turn_base"], max_cases=3))
    check_trajectory_metric(BFCLColumns())


def test_every_case_is_there() -> None:
    for category in ("simple_java", "live_simple", "live_relevance"):
        assert [one.reference_id for one in references_of(category)] == list(cases_of(category))


def test_the_teacher_is_right_in_every_column() -> None:
    environment = BFCL(categories=["multiple", "irrelevance"], max_cases=4)
    prompts = [(reference,) for reference in environment.read()]
    metrics = SplitMetrics([], environment.reward, own=environment.metrics or ())
    metrics.update(teacher_groups(prompts))
    found = {name: float(value) for name, value in metrics.compute().items() if name.startswith("bfcl/")}
    assert found == {"bfcl/multiple": 1.0, "bfcl/irrelevance": 1.0}


def test_means_are_those_of_the_package() -> None:
    """Hand-worked: simple is the mean of 1/2, 0 and 1; live counts cases."""
    counts = {
        **{"simple_python": (1.0, 2.0), "simple_java": (0.0, 4.0), "simple_javascript": (1.0, 1.0)},
        **{"multiple": (3.0, 4.0), "parallel": (0.0, 1.0), "parallel_multiple": (1.0, 1.0)},
        **{"live_simple": (1.0, 2.0), "live_multiple": (0.0, 6.0)},
    }
    found = columns(counts)
    assert found["non_live"] == pytest.approx((0.5 + 0.75 + 0.0 + 1.0) / 4)
    assert found["live_simple"] == 0.5 and "live" not in found and "multi_turn" not in found
    more = columns({**counts, "live_parallel": (1.0, 1.0), "live_parallel_multiple": (1.0, 1.0)})
    assert more["live"] == pytest.approx(3 / 10)


def test_training_pays_no_broken_call_where_none_fits_and_evaluation_is_the_leaderboards() -> None:
    environment = BFCL(categories=["irrelevance"], max_cases=1)
    (reference,) = environment.read()
    broken = trajectory("", ToolCall(call_id="a", name="f", parse_error="no JSON"), reference_id="irrelevance_0")
    refusal = trajectory("No function fits.", reference_id="irrelevance_0")
    group = TrajectoryGroup(references=(reference,), trajectories=(broken, refusal))
    scored = environment.reward.score_group(group)
    assert scored.rewards == (0.0, 1.0)
    metrics = SplitMetrics([], environment.reward, own=environment.metrics or ())
    metrics.update([group])
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found["success"] == found["score/bfcl"] == found["bfcl/irrelevance"] == 1.0


def test_the_reward_of_the_readme_is_one_and_pays_a_broken_call_nothing() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    program = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if "Readable" in block)
    made = build({"program": yaml.safe_load(program)}, {"program": RewardProgram}, "README")["program"]
    (reference,) = BFCL(categories=["irrelevance"], max_cases=1).read()
    broken = trajectory("", ToolCall(call_id="a", name="f", parse_error="no JSON"), reference_id="irrelevance_0")
    assert made.score_group(TrajectoryGroup(references=(reference,), trajectories=(broken,))).rewards == (0.0,)


def test_a_broken_call_can_be_mended_in_a_conversation() -> None:
    assert not BFCL(categories=["multi_turn_base"]).reward.exits


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"categories": []}, "categories names none; there are simple_python"),
        ({"categories": ["multipel"]}, "categories names 'multipel'"),
        ({"categories": ["multi_turn_miss_func"]}, "categories names 'multi_turn_miss_func'"),
        ({"categories": ["multiple", "multi_turn_base"]}, "mixes multiple, multi_turn_base"),
        ({"categories": ["multiple"], "max_cases": 0}, "max_cases is 0"),
        ({"categories": ["multiple"], "weight": 0}, "weight is 0"),
    ],
)
def test_what_cannot_be(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        BFCL(**settings)
