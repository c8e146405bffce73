"""Prints the installed version of everything that mentor_pl needs, directly or not: python scripts/freeze.py > constraints.txt."""

from __future__ import annotations

import re
from importlib import metadata

from packaging.requirements import Requirement

EXTRAS = ("plot", "gguf", "collect", "search", "parquet", "hub", "vllm", "test")
HEADER = """\
# The versions that CI ran with. To repeat the quickstart exactly: PIP_CONSTRAINT=constraints.txt bash scripts/quickstart.sh
# Made by: python scripts/freeze.py > constraints.txt"""


def closure(
    name: str, extras: tuple[str, ...], found: dict[str, str], visited: set[tuple[str, tuple[str, ...]]]
) -> None:
    """Add a distribution and all that it requires here to `found`."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if (key, extras) in visited:
        return
    visited.add((key, extras))
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return  # for another platform, or of an extra that is not installed
    found[key] = distribution.version.partition("+")[0]  # the build for CPUs or CUDA has the same number
    for line in distribution.requires or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            closure(needed.name, tuple(sorted(needed.extras)), found, visited)


if __name__ == "__main__":
    versions: dict[str, str] = {}
    closure("mentor-pl", EXTRAS, versions, set())
    print(HEADER)
    print(
        "\n".join(
            f"{name}=={version}" for name, version in sorted(versions.items()) if not name.startswith("mentor-pl")
        )
    )
