"""Hundreds of wrong commands; MENTOR_PL_WRONG_COMMANDS=200 sets how many of each subcommand."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.unit.cli.wrong_commands import COMMANDS, before_the_work, faults_of, write_inputs, wrong
from tests.unit.cli.wrong_configs import answer

COUNT = int(os.environ.get("MENTOR_PL_WRONG_COMMANDS", "20"))

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120 + 4 * COUNT)]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_wrong_command_ends_in_a_traceback(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    faults: list[str] = []
    with before_the_work(monkeypatch):
        for seed in range(1000, 1000 + COUNT):
            folder = tmp_path / str(seed)
            folder.mkdir()
            monkeypatch.chdir(folder)
            write_inputs(folder)
            case = wrong(command, seed)
            faults += faults_of(case, answer(case.arguments))
    assert faults == []
