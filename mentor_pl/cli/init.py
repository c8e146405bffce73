"""`mentor-pl init`: a small project of one's own that runs at once."""

from __future__ import annotations

import shutil
from pathlib import Path

from mentor_pl.cli.parser import call
from mentor_pl.errors import ConfigError

_TEMPLATES = Path(__file__).parent.parent / "templates"


def templates() -> tuple[str, ...]:
    """Return the names of the project templates, sorted."""
    return tuple(sorted(p.name for p in _TEMPLATES.iterdir() if (p / "mentor.yaml").is_file()))


def init(folder: Path, template: str = "calculator") -> None:
    """Write a small project: tools, references, a reward of its own, a config, a README.

    Args:
        folder: Where to write it; a new or empty folder.
        template: Which project to start from.

    Raises:
        ConfigError: The folder holds files already, or there is no such template.
    """
    if template not in templates():
        raise ConfigError(f"init: template is {template!r}; there are {', '.join(templates())}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "holds files already" if folder.is_dir() else "is a file"
        raise ConfigError(f"init: {folder} {what}; name a new or empty folder")
    try:
        shutil.copytree(
            _TEMPLATES / template, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "runs")
        )
    except OSError as failure:
        raise ConfigError(f"init: {folder} cannot be written: {failure.strerror}; name another folder") from failure
    print(f"{folder} holds:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name}")
    print(f"\ncd {folder} && mentor-pl fit --config mentor.yaml")


def main(argv: list[str]) -> None:
    """Run `mentor-pl init`."""
    call(init, argv, prog="mentor-pl init", as_positional=True)
