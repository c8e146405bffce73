from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mentor_pl.cli.plugins import plugin_hint
from mentor_pl.plugins import load_plugins
from tests.unit.test_plugins import GOOD, install

ROOT = Path(__file__).parents[3]
LIST = "from mentor_pl.cli.plugins import main; main(['--group', 'mentor_pl.rewards'])"


def run(code: str, *site: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, site)), "COLUMNS": "160"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def rewards() -> None:
    load_plugins("mentor_pl.rewards")


def test_the_table_names_what_failed_and_the_exit_code_tells(tmp_path: Path) -> None:
    install(tmp_path, "kind-reward", "Kind = kind:Kind", GOOD.format(name="Kind"))
    install(tmp_path, "faulty-reward", "Broken = broken:Broken", "import no_such_library")
    done = run(LIST, tmp_path)
    row = next(line for line in done.stdout.splitlines() if "kind:Kind" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "mentor_pl.rewards",
        "Kind",
        "kind:Kind",
        "kind-reward 1.0",
    ]
    assert (
        "failed to load: Broken (faulty-reward 1.0): ModuleNotFoundError: No module named 'no_such_library'"
        in " ".join(done.stdout.split())
    )
    assert done.returncode == 1


def test_installing_the_example_plugin_is_all_it_takes(tmp_path: Path) -> None:
    project = ROOT / "plugins" / "mentor-pl-brevity"
    entry = re.search(r'^Brevity = "(.+)"$', (project / "pyproject.toml").read_text(), re.MULTILINE)
    assert entry is not None
    install(tmp_path, "mentor-pl-brevity", f"Brevity = {entry[1]}", None)
    program = tmp_path / "reward.yaml"
    program.write_text(
        "terms:\n- name: brevity\n  component:\n    class_path: Brevity\n    init_args:\n      target_tokens: 7\n  weight: 0.5\n"
    )
    code = f"""
from jsonargparse import ArgumentParser
from mentor_pl.plugins import load_plugins
from mentor_pl.rewards.program import RewardProgram
load_plugins("mentor_pl.rewards")
parser = ArgumentParser()
parser.add_argument("--program", type=RewardProgram)
(term,) = parser.instantiate(parser.parse_args(["--program", {str(program)!r}])).program.terms
print(type(term.component).__name__, term.component.target_tokens, term.component.zero_at_tokens)
"""
    done = run(code, tmp_path, project)
    assert (done.stdout, done.returncode) == ("Brevity 7 512\n", 0), done.stderr


def test_a_misspelt_name_is_answered_with_what_is_installed() -> None:
    hint = plugin_hint("Parser key: Expected a dot import path string: ToolMach", "mentor_pl.rewards").splitlines()
    assert hint[:2] == [
        "No plugin is named 'ToolMach' (did you mean 'ToolMatch'?); installed are",
        "mentor_pl.rewards:",
    ]
    assert re.fullmatch(r"  Answered \(mentor-pl \S+\)", hint[2])
    assert len(hint) >= 2 + 6


def test_a_plugin_that_failed_to_load_is_said_to_have_failed(tmp_path: Path) -> None:
    install(tmp_path, "faulty-reward", "Broken = broken:Broken", "import no_such_library")
    code = """
from mentor_pl.cli.plugins import plugin_hint
print(plugin_hint("Expected a dot import path string: Broken", "mentor_pl.rewards").splitlines()[0])
"""
    assert run(code, tmp_path).stdout == (
        "The plugin 'Broken' (faulty-reward 1.0) failed to load: ModuleNotFoundError: No module named 'no_such_library'; "
        "installed are\n"
    )


def test_a_misspelt_argument_is_answered_with_what_there_is() -> None:
    message = "Problem with given class_path 'mentor_pl.rewards.tool_match.ToolMatch':\n  Option 'mod' is not accepted"
    hint = plugin_hint(message, "mentor_pl.rewards")
    assert re.fullmatch(
        r"ToolMatch \(mentor-pl \S+\) takes mode, ignore_unknown, count_failed \(did you mean 'mode'\?\)", hint
    )


def test_other_errors_are_left_alone() -> None:
    assert plugin_hint("the following arguments are required: --program") == ""
    assert plugin_hint("given class_path 'no.such.Class': Option 'x' is not accepted") == ""
