from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.unit.test_plugins import GOOD, install

ROOT = Path(__file__).parents[3]
LIST = "from mentor_pl.cli.plugins import main; main(['--group', 'mentor_pl.rewards'])"


def run(code: str, *site: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, site)), "COLUMNS": "160"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


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
