"""Every symbol that a page names as `path/file.py:Symbol` exists, and every path that it names too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SYMBOL = re.compile(r"`((?:mentor_pl|benchmarks|examples)/[\w/]+\.py):(\w+)`")
MADE = ("benchmarks/results/gpu/",)
"""Folders that a command makes."""
PLACE = re.compile(r"`((?:mentor_pl|configs|benchmarks|examples|scripts|tests|plugins)/[\w./-]*)`")


def defined(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_symbols_exist(page: Path) -> None:
    text = page.read_text()
    missing = [f"{file}:{name}" for file, name in SYMBOL.findall(text) if name not in defined(ROOT / file)]
    assert missing == []
    assert [place for place in PLACE.findall(text) if place not in MADE and not (ROOT / place).exists()] == []


def test_the_method_page_names_symbols() -> None:
    assert len(SYMBOL.findall((ROOT / "docs" / "method.md").read_text())) >= 20
