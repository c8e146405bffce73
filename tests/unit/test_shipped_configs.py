"""Configs that come with the package are found by name; a file of the user's own comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from mentor_pl.cli.shipped import with_shipped_configs
from mentor_pl.configs import config_folder, config_names, find_config
from mentor_pl.errors import ConfigError


@pytest.mark.parametrize("name", ["mentor", "mentor.yaml", "configs/mentor.yaml"])
def test_a_name_is_the_shipped_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == str(config_folder() / "mentor.yaml")


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mentor").mkdir()  # a folder is no config
    assert find_config("mentor") == str(config_folder() / "mentor.yaml")
    Path("mentor.yaml").write_text("seed_everything: 1")
    assert find_config("mentor.yaml") == "mentor.yaml"


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"config 'mentr': there is no such file.*shipped are.* mentor,.*student/lora"
    ):
        find_config("mentr")


def test_every_shipped_file_has_a_name() -> None:
    assert {"mentor", "sft", "sparse", "collect", "student/lora", "rewards/mentor"} <= set(config_names())


def test_only_options_that_take_a_config_are_looked_up() -> None:
    lora = str(config_folder() / "student" / "lora.yaml")
    arguments = [
        "fit",
        "--config=student/lora",
        "-c",
        "student/lora",
        "--run_dir",
        "mentor",
        "--data.reward",
        "{terms: []}",
    ]
    assert with_shipped_configs(arguments) == [
        *("fit", f"--config={lora}", "-c", lora, "--run_dir", "mentor", "--data.reward", "{terms: []}")
    ]
