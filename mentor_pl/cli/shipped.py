"""Names of shipped configs, wherever a user writes one: on the command line, and as a reward in a YAML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from mentor_pl.configs import config_folder, config_names, find_config

PARSER_MODE = "mentor-pl"
"""How jsonargparse calls YAML in which a reward may be named as a shipped one."""

_CONFIG_OPTIONS = ("-c", "--config", "--program", "--data.reward")
"""Options whose value is a config's path or name."""

_REWARD_KEYS = ("reward", "program")
"""Keys, wherever they stand, whose text is the path or name of a reward program."""

_REWARDS = "rewards/"


def with_shipped_configs(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the names of shipped configs replaced by their paths.

    Raises:
        UsageError: An option that asks for a config names none.
    """
    out = list(argv)
    for i, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        if equals:
            out[i] = f"{option}={_resolver(option)(value)}"
        elif i:
            out[i] = _resolver(argv[i - 1])(argument)
    return out


def with_shipped_rewards(value: Any, folder: Path) -> Any:
    """Return what a YAML document holds, with the names of shipped rewards replaced by their paths.

    Args:
        value: The document.
        folder: Where it stands; a file there comes first.
    """
    if isinstance(value, list):
        return [with_shipped_rewards(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _shipped_reward(item, folder)
        if key in _REWARD_KEYS and isinstance(item, str)
        else with_shipped_rewards(item, folder)
        for key, item in value.items()
    }


def reward_names() -> list[str]:
    """Return the names of the shipped rewards."""
    return [name for name in config_names() if name.startswith(_REWARDS)]


def _resolver(option: str) -> Callable[[str], str]:
    if option in _CONFIG_OPTIONS:
        return _shipped_config
    if option.startswith("--") and option.removeprefix("--").rpartition(".")[2] in _REWARD_KEYS:
        return lambda value: _shipped_reward(value, Path())
    return lambda value: value


def _shipped_config(value: str) -> str:
    """Leave alone what is written out in place of a file's name."""
    return value if value.lstrip()[:1] in ("{", "[", "-", "") or value == "null" else find_config(value)


def _shipped_reward(name: str, folder: Path) -> str:
    short = name.removeprefix("configs/").removesuffix(".yaml")
    if not short.startswith(_REWARDS) or short not in config_names() or (folder / name).is_file():
        return name
    return str(config_folder() / f"{short}.yaml")


def _load(text: str) -> Any:
    # jsonargparse works in the folder of the config that it reads
    return with_shipped_rewards(get_loader("yaml")(text), Path())


set_loader(PARSER_MODE, _load, (yaml.YAMLError,))
