"""The configs that come with the package, named without a path: `mentor`, `student/lora`, `rewards/strict`.

In a checkout they are the files of `configs/`; a wheel holds a copy of that folder.
"""

from __future__ import annotations

from pathlib import Path

from mentor_pl.errors import ConfigError, UsageError

_PACKAGE = Path(__file__).parent
_FOLDER = "configs"


def config_folder() -> Path:
    """Return the folder of the shipped configs: the wheel's, or else the checkout's.

    Raises:
        ConfigError: There is neither; the installation is incomplete.
    """
    for folder in (_PACKAGE / _FOLDER, _PACKAGE.parent / _FOLDER):
        if (folder / "mentor.yaml").is_file():
            return folder
    raise ConfigError(f"{_PACKAGE} was installed without its configs; install mentor-pl again")


def config_names() -> tuple[str, ...]:
    """Return the names of all shipped configs, sorted: `mentor`, `rewards/f1`, ..."""
    folder = config_folder()
    return tuple(sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml")))


def find_config(name: str) -> str:
    """Turn what a user calls a config into the path of a file.

    Args:
        name: A path, which comes first, or the name of a shipped config: `mentor`, `mentor.yaml` or
            `configs/mentor.yaml`.

    Returns:
        The path of an existing file.

    Raises:
        ConfigError: There is no such file and no shipped config of that name.
    """
    if Path(name).is_file():
        return name
    short = name.removeprefix(f"{_FOLDER}/").removesuffix(".yaml")
    if short not in config_names():
        known = ", ".join(config_names())
        raise UsageError(
            f"config {name!r}: there is no such file, nor a shipped config of that name; shipped are {known}"
        )
    return str(config_folder() / f"{short}.yaml")
