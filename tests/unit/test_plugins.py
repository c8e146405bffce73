"""Every plugin here is a distribution of its own in a folder on the path, as pip would leave it; each case runs in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mentor_pl.errors import PluginError
from mentor_pl.plugins import describe_plugins, find_plugins, load_plugins

GOOD = """
from mentor_pl.rewards.base import RewardComponent

class {name}(RewardComponent):
    def score(self, trajectory, references):
        return 1.0
"""
SHOW = """
import json
from mentor_pl.plugins import find_plugins
print(json.dumps({p.name: [p.distribution, p.loaded is not None, p.error] for p in find_plugins("mentor_pl.rewards")}))
"""


def install(site: Path, distribution: str, entry: str, source: str | None) -> None:
    """Lay out a distribution with one reward entry point, such as "Kind = kind:Kind"."""
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mentor_pl.rewards]\n{entry}\n")
    if source is not None:
        module = entry.partition("=")[2].partition(":")[0].strip()
        (site / f"{module}.py").write_text(source)


def found(site: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_third_partys_class_is_found_with_our_own(tmp_path: Path) -> None:
    install(tmp_path, "kind-reward", "Kind = kind:Kind", GOOD.format(name="Kind"))
    plugins = found(tmp_path)
    assert plugins["Kind"] == ["kind-reward 1.0", True, None]
    assert plugins["Correct"][1:] == [True, None]


@pytest.mark.parametrize(
    ("entry", "source", "error"),
    [
        ("Broken = broken:Broken", "import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("Broken = broken:Broken", "1 / 0", "ZeroDivisionError: division by zero"),
        ("Gone = gone:Gone", None, "ModuleNotFoundError: No module named 'gone'"),
        ("Other = other:Other", "", "AttributeError: module 'other' has no attribute 'Other'"),
        (
            "Loose = loose:Loose",
            "class Loose: pass",
            "loose:Loose is not a subclass of mentor_pl.rewards.base.RewardComponent",
        ),
        (
            "Alias = real:Real",
            GOOD.format(name="Real"),
            "the entry point is named 'Alias' but its class 'Real'; give both one name",
        ),
    ],
)
def test_one_that_fails_says_why_and_harms_no_other(tmp_path: Path, entry: str, source: str | None, error: str) -> None:
    install(tmp_path, "faulty-reward", entry, source)
    install(tmp_path, "kind-reward", "Kind = kind:Kind", GOOD.format(name="Kind"))
    plugins = found(tmp_path)
    assert plugins[entry.partition(" ")[0]] == ["faulty-reward 1.0", False, error]
    assert plugins["Kind"][1] is True


def test_two_distributions_with_one_name_are_told_apart(tmp_path: Path) -> None:
    source = SHOW.replace("{p.name: [", "{p.distribution: [")
    install(tmp_path, "first-reward", "Twice = first:Twice", GOOD.format(name="Twice"))
    install(tmp_path, "second-reward", "Twice = second:Twice", GOOD.format(name="Twice"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    plugins = json.loads(done.stdout)
    both = sorted([plugins["first-reward 1.0"][1:], plugins["second-reward 1.0"][1:]], key=str)
    winner = "first" if plugins["first-reward 1.0"][1] else "second"
    assert both == [
        [False, f"the name is taken by {winner}-reward 1.0; rename or uninstall one of the two"],
        [True, None],
    ]


def test_looking_for_rewards_does_not_import_torch() -> None:
    code = "import sys; from mentor_pl.plugins import load_plugins; load_plugins('mentor_pl.rewards'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_our_own_rewards_come_through_the_door() -> None:
    ours = {"Answered", "Correct", "Finished", "KnownTools", "TeacherUsedTools", "ToolMatch"}
    assert ours <= set(load_plugins("mentor_pl.rewards"))
    assert "  Correct (mentor-pl " in describe_plugins("mentor_pl.rewards")


def test_an_unknown_door_is_refused() -> None:
    with pytest.raises(
        PluginError, match="unknown plugin group 'mentor_pl.reward'; the groups are mentor_pl.rewards, "
    ):
        find_plugins("mentor_pl.reward")
    with pytest.raises(PluginError, match="unknown plugin group"):
        load_plugins("mentor_pl.nowhere")
