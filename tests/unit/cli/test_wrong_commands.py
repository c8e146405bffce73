"""Wrong commands of every subcommand: one line, which names the culprit, before a student is loaded or a teacher asked.

The unit tier tries a few of each; `tests/integration/test_wrong_commands.py` tries hundreds.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.unit.cli.wrong_commands import COMMANDS, before_the_work, faults_of, right, write_inputs, wrong
from tests.unit.cli.wrong_configs import answer


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    write_inputs(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_right_command_comes_to_its_work(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with before_the_work(monkeypatch):
        given = answer(right(command))
    assert given.status in (None, 0), given.said + given.crash


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"no checkpoint")
    with before_the_work(monkeypatch):
        given = answer(right("export"))
    assert given.said.startswith("mentor-pl: ConfigError: --checkpoint: last.ckpt is cut off, damaged or no checkpoint")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_command(command: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = wrong(command, seed)
    with before_the_work(monkeypatch):
        assert faults_of(case, answer(case.arguments)) == []


def test_what_another_library_says_in_many_lines_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with before_the_work(monkeypatch):
        given = answer(["chat", "no-such/student"])
    assert given.status == 1
    assert given.said.startswith("mentor-pl: StudentError: student 'no-such/student'")
    assert given.said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["doctor", "embedded:student", "--rows=0"], "ConfigError: doctor: rows is 0; it must be at least 1"),
        (["chat", "embedded:student", "--device=nan"], "ConfigError: chat: device is 'nan'; give cpu, cuda or cuda:1"),
        (
            ["score", "--program.terms=[{name: c, component: Correct}]", "--references=r", "--trajectories=t"],
            "UsageError: program.terms[0]: RewardTerm needs weight",
        ),
    ],
)
def test_it_says_what_to_mend(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with before_the_work(monkeypatch):
        given = answer(arguments)
    assert said in given.said
    assert given.status in (1, 2)
