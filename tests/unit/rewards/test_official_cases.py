from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from mentor_pl.plugins import load_plugins
from mentor_pl.rewards.program import RewardProgram
from mentor_pl.trajectory import TrajectoryGroup
from tests.unit.rewards.official_cases import PRESETS, case, rows

CONFIGS = Path(__file__).parents[3] / "configs" / "rewards"


def load(preset: str) -> RewardProgram:
    load_plugins("mentor_pl.rewards")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--program", type=RewardProgram)
    return parser.instantiate(parser.parse_args(["--program", str(CONFIGS / f"{preset}.yaml")])).program


@pytest.mark.parametrize("setting", PRESETS)
def test_all_200_rewards_of_the_release_agree(setting: str) -> None:
    program = load(PRESETS[setting])
    wrong: dict[int, tuple[float, float]] = {}
    for row in rows():
        reference, trajectory = case(row)
        (reward,) = program.score_group(TrajectoryGroup(references=(reference,), trajectories=(trajectory,))).rewards
        if reward != pytest.approx(row["scores"][setting], abs=1e-6):
            wrong[row["id"]] = (reward, row["scores"][setting])
    assert (len(rows()), wrong) == (200, {})


def test_every_preset_is_among_them() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*PRESETS.values(), "strict"}  # strict was never released
