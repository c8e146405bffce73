"""Where the embedded files lie, from a checkout or a wheel and from any working directory."""

from __future__ import annotations

import os
from pathlib import Path

from mentor_pl.errors import ConfigError

EMBEDDED_PREFIX = "embedded:"
"""A path in a config that starts with this names an embedded file: `embedded:train.parallel.jsonl`, `embedded:student`."""

_ROOT = Path(__file__).parent
_DATA = _ROOT / "data"


def path(name: str) -> Path:
    """Return the place of an embedded file.

    Args:
        name: `student` for the starting student's folder, else a reference file:
            `train.parallel.jsonl`, `eval/id.jsonl`.

    Raises:
        ConfigError: There is no such embedded file.
    """
    files = {file.relative_to(_DATA).as_posix(): file for file in sorted(_DATA.rglob("*.jsonl"))}
    known = {"student": _ROOT / "student", **files}
    if name not in known:
        raise ConfigError(f"there is no embedded file {name!r}; there are {', '.join(known)}")
    return known[name]


def resolve(location: str | os.PathLike[str]) -> Path:
    """Turn a path as it stands in a config into a real one; what does not start with `embedded:` is taken as it is.

    Raises:
        ConfigError: It names an embedded file that does not exist.
    """
    text = os.fspath(location)
    return path(text.removeprefix(EMBEDDED_PREFIX)) if text.startswith(EMBEDDED_PREFIX) else Path(text)
