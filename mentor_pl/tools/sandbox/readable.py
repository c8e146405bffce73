"""What confined code may read: enough to import the standard library and chosen packages, and nothing else."""

from __future__ import annotations

import importlib.metadata
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import mentor_pl
from mentor_pl.errors import ConfigError

_MULTIARCH = sysconfig.get_config_var("MULTIARCH") or ""
_LIBRARIES = [Path(root, _MULTIARCH) for root in ("/lib", "/usr/lib")] + [Path("/lib64"), Path("/usr/lib64")]
"""Where the dynamic linker looks: `lib/x86_64-linux-gnu` on Debian and its kin, `lib` and `lib64` elsewhere."""


def _top_level_entries(package: str, folder: Path) -> list[Path]:
    """List what a distribution has put into site-packages: its packages, modules and bundled libraries."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as missing:
        raise ConfigError(f"PythonInterpreter.packages names {package!r}, which is not installed here") from missing
    names = {file.parts[0] for file in files} - {"..", "__pycache__"}
    return [folder / name for name in sorted(names)]


def readable_paths(packages: Sequence[str]) -> tuple[list[str], list[str]]:
    """Choose what code may read: the standard library, shared libraries, time zones, and the given distributions.

    Everything else in site-packages stays out of sight, this package with its reference data first
    of all.

    Returns:
        The paths, and the `sys.path` to go with them.
    """
    paths = sysconfig.get_paths()
    # Not sysconfig's "platstdlib": within a virtual environment that is the environment's own, and holds no standard library.
    standard = [Path(paths["stdlib"]), Path(sysconfig.get_config_var("DESTSHARED") or paths["stdlib"])]
    libraries = [*Path(sys.base_prefix, "lib").glob("lib*.so*"), *(path for path in _LIBRARIES if path.exists())]
    folders = {
        Path(folder)
        for folder in (*site.getsitepackages(), site.getusersitepackages(), paths["purelib"], paths["platlib"])
    }
    hidden = [*folders, Path(mentor_pl.__file__).parent]
    hidden += [standard[0] / name for name in ("site-packages", "dist-packages")]
    readable = without([path for path in (*standard, *libraries) if path.exists()], hidden)
    chosen = [
        entry
        for package in packages
        for folder in folders
        for entry in _top_level_entries(package, folder)
        if entry.exists()
    ]
    search = [*map(str, dict.fromkeys(standard)), *(sorted(map(str, folders)) if chosen else [])]
    return [*readable, "/usr/share/zoneinfo", *map(str, chosen)], search


def without(paths: Iterable[Path], hidden: Iterable[Path]) -> list[str]:
    """List paths that cover `paths` but not `hidden`: a directory that holds something hidden is replaced by its other entries.

    Landlock can only allow, never take away, so that what must stay out of sight has to be left out
    when allowing.
    """
    secrets = {path.resolve() for path in hidden}
    covered: list[str] = []
    for path in {path.resolve() for path in paths}:
        if any(path == secret or secret in path.parents for secret in secrets):
            continue
        if any(path in secret.parents for secret in secrets) and path.is_dir():
            covered += without((child for child in path.iterdir()), secrets)
        else:
            covered.append(str(path))
    return sorted(set(covered))
