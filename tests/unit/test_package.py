"""The package's metadata says what its code needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in requirements}


def imported(tree: ast.Module, *, at_import: bool) -> set[str]:
    """Top-level packages that a module imports: when it is imported itself, or at any time."""
    nodes = ast.iter_child_nodes(tree) if at_import else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"mentor_pl"}


def undeclared(allowed: set[str], *, at_import: bool) -> set[str]:
    owners = packages_distributions()
    return {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "mentor_pl").rglob("*.py"))
        for name in imported(ast.parse(path.read_text()), at_import=at_import)
        if not {normal(owner) for owner in owners.get(name, [name])} & allowed
    }


def test_what_is_imported_is_declared() -> None:
    assert undeclared(declared(PROJECT["dependencies"]), at_import=True) <= {
        # With the extra `vllm`; AutoEngine and configs without it never import these files.
        "mentor_pl/references/bounded_http.py: openai",  # with the extra `collect`, imported by OpenAITeacher alone
        *(f"mentor_pl/engines/vllm/{file}.py: aiohttp" for file in ("client", "session", "engine", "server", "probe")),
    }


def test_what_is_imported_later_is_declared_with_an_extra() -> None:
    extras = declared([line for lines in PROJECT["optional-dependencies"].values() for line in lines])
    assert undeclared(declared(PROJECT["dependencies"]) | extras, at_import=False) == set()


def test_the_constraints_hold_every_dependency() -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert declared(PROJECT["dependencies"]) <= pinned


@pytest.mark.integration  # processes that import torch
def test_nothing_imports_bitsandbytes_before_a_student_asks_for_it() -> None:
    script = (
        "import sys, mentor_pl.cli.training\n"
        "from mentor_pl.plugins import find_plugins\n"
        "find_plugins()\n"
        "from mentor_pl.students.full import FullStudent\n"
        "FullStudent('embedded:student').load_model()\n"
        "sys.exit(', '.join({'bitsandbytes', 'peft'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
