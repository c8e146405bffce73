"""A shipped reward is found by its name wherever a YAML file names a reward; a file of the user's own comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mentor_pl.cli.parser import call
from mentor_pl.cli.shipped import with_shipped_configs
from mentor_pl.configs import config_folder
from mentor_pl.environments import Environment
from mentor_pl.errors import UsageError
from mentor_pl.rewards.program import RewardProgram

_STRICT = ["correct", "call_match", "known_tools"]
_OWN = {"terms": [{"name": "mine", "component": "Finished", "weight": 1.0}]}
_GROUPS = ("mentor_pl.rewards", "mentor_pl.tools")


def _terms(*arguments: str) -> list[list[str]]:
    """Return the terms of every reward that a config names."""

    def command(
        reward: RewardProgram | None = None,
        train: list[Environment] | None = None,
        evaluation: dict[str, str | Environment] | None = None,
    ) -> list[list[str]]:
        environments = [*(train or []), *(e for e in (evaluation or {}).values() if isinstance(e, Environment))]
        rewards = [reward, *(environment.reward for environment in environments)]
        return [[term.name for term in one.terms] for one in rewards if one is not None]

    return call(command, with_shipped_configs(arguments), prog="test", groups=_GROUPS)


def _config(folder: Path, **values: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return f"--config={folder / 'config.yaml'}"


@pytest.mark.parametrize("name", ["rewards/strict", "rewards/strict.yaml", "configs/rewards/strict.yaml"])
def test_a_shipped_reward_is_found_by_its_name_at_every_place(name: str, tmp_path: Path) -> None:
    environment = {"references": "train.jsonl", "reward": name}
    config = _config(
        tmp_path,
        reward=name,
        train=[environment, {"class_path": "Environment", "init_args": environment}],
        evaluation={"a": environment, "b": "other.jsonl"},
    )
    assert _terms(config) == [_STRICT] * 4
    assert _terms("--train", f"[{{references: train.jsonl, reward: {name}}}]", "--reward", name) == [_STRICT] * 2
    assert _terms(config, "--reward.terms+={name: more, component: Finished, weight: 0.1}")[0] == [*_STRICT, "more"]


def test_a_file_beside_the_config_comes_first(tmp_path: Path) -> None:
    (tmp_path / "project" / "rewards").mkdir(parents=True)
    (tmp_path / "project" / "rewards" / "strict").write_text(yaml.safe_dump(_OWN))
    (tmp_path / "project" / "rewards" / "own.yaml").write_text(yaml.safe_dump(_OWN))
    config = _config(tmp_path / "project", reward="rewards/strict", train=[{"reward": "rewards/own.yaml"}])
    assert _terms(config) == [["mine"], ["mine"]]


@pytest.mark.parametrize("name", ["rewards/strikt", "rewards/strikt.yaml", "strict", "gone.json"])
def test_a_name_found_nowhere_is_told_where_it_was_looked_for(name: str, tmp_path: Path) -> None:
    looked = rf"there is no file {name} in {tmp_path}.* nor a shipped reward .* rewards/mentor, .*rewards/strict; mend"
    for values, place in (
        ({"reward": name}, "reward"),
        ({"train": [{"reward": name}]}, r"train\[0\].reward"),
        ({"evaluation": {"held_out": {"reward": name}}}, "evaluation.held_out.reward"),
    ):
        with pytest.raises(UsageError, match=rf"{tmp_path}/config.yaml: {place}: {looked}"):
            _terms(_config(tmp_path, **values))


def test_a_file_in_the_place_of_an_environment_is_told_how_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "shop.jsonl").touch()
    for name, hint in (
        ("shop.jsonl", r"; the file shop.jsonl is written \{references: shop.jsonl\}$"),
        ("gone.jsonl", ".*"),
    ):
        with pytest.raises(UsageError, match=rf"train\[0\]: there is no Environment '{name}'.*{hint}") as refused:
            _terms(_config(tmp_path, train=[name]))
        assert ("is written" in str(refused.value)) == (name == "shop.jsonl")


def test_only_rewards_are_looked_up_in_a_file(tmp_path: Path) -> None:
    def command(run_dir: str) -> str:
        return run_dir

    assert call(command, [_config(tmp_path, run_dir="rewards/strict")], prog="test") == "rewards/strict"


def test_an_option_for_a_reward_may_name_a_shipped_one() -> None:
    path = str(config_folder() / "rewards" / "f1.yaml")
    given = ["fit", "--data.evaluation.qa.reward", "rewards/f1", "--data.train.reward=rewards/f1", "--x.reward=0.5"]
    expected = ["fit", "--data.evaluation.qa.reward", path, f"--data.train.reward={path}", "--x.reward=0.5"]
    assert with_shipped_configs(given) == expected
