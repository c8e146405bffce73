"""A rank that refuses to start: every rank ends soon, whoever started them, and one of them says why."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mentor_pl.training.run_folder import RunFolder
from tests.integration.distributed.runs import DDP, Runs, environment

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ONE_RANK_REFUSES = """
import os
from mentor_pl.errors import ConfigError
from mentor_pl.students.full import FullStudent

class Refusing(FullStudent):
    def load_model(self):
        if os.environ["LOCAL_RANK"] == os.environ["REFUSING_RANK"]:
            raise ConfigError("the student is not here")
        return super().load_model()
"""
STUDENT = ("--model.student.class_path", "refusing.Refusing", "--model.student.init_args.path", "embedded:student")


def started(folder: Path, *overlays: str, launched: bool, rank: int = 0) -> list[subprocess.Popen[str]]:
    """Start two ranks: by Lightning, or as SLURM would, which lets the others live where one has ended."""
    runs = Runs(folder)
    (folder / "refusing.py").write_text(ONE_RANK_REFUSES)
    command = [sys.executable, "-m", "mentor_pl", *runs.command("run", *DDP, *overlays)]
    shared = {**environment(), "PYTHONPATH": f"{environment()['PYTHONPATH']}:{folder}", "REFUSING_RANK": str(rank)}
    environments = [shared]
    if launched:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "refusal", "GROUP_RANK": "0"}
        environments = [
            {**shared, **address, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": r, "LOCAL_RANK": r} for r in "01"
        ]
    return [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for env in environments
    ]


def all_ended(processes: list[subprocess.Popen[str]]) -> str:
    """Return what they said; the limit is far below the half hour that a process group waits."""
    try:
        said = "".join(process.communicate(timeout=400)[0] for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode for process in processes), said
    assert "Traceback" not in said
    return said


def test_rank_0_alone_finds_the_folder_in_use(tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "run")
    try:
        said = all_ended(started(tmp_path, launched=True))
    finally:
        other.close()
    assert said.count("ConfigError") == 1
    assert "is used by process" in said


@pytest.mark.parametrize("launched", [False, True], ids=["by Lightning", "by a launcher"])
@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_cannot_load_the_student(tmp_path: Path, rank: int, launched: bool) -> None:
    said = all_ended(started(tmp_path, *STUDENT, launched=launched, rank=rank))
    assert said.count("the student is not here") == 1


def test_all_ranks_refuse_the_same(tmp_path: Path) -> None:
    said = all_ended(started(tmp_path, "--data.references", "nowhere.jsonl", launched=True))
    assert said.count("nowhere.jsonl") == 1


def test_a_launcher_started_another_number_of_processes(tmp_path: Path) -> None:
    said = all_ended(started(tmp_path, "--trainer.devices", "3", launched=True))
    assert said.count("ConfigError: trainer.devices is 3") == 1
