from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from mentor_pl.errors import ConfigError
from mentor_pl.training.run_folder import RunFolder, requeued_checkpoint
from mentor_pl.training.run_position import RunPosition

# Of Lightning's logger: its earlier file has been moved away.
pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory")


def write_log(folder: Path) -> None:
    """An evaluation before training, two steps with one after each, and a third step."""
    logger = CSVLogger(folder, name="", version="")
    logger.log_metrics({"val/id/accuracy": 0.1, "epoch": 0}, 0)
    for step in range(3):
        logger.log_metrics({"train/loss": 0.5 + step, "epoch": 0}, step)
        if step < 2:
            logger.log_metrics({"val/id/accuracy": 0.2 + step, "epoch": 0}, step)
    logger.save()


def rows(folder: Path) -> list[tuple[int, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [(int(r["step"]), r.get("train/loss") or "val " + r["val/id/accuracy"]) for r in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("position", "kept"),
    [
        (RunPosition(step=2, steps_in_epoch=2), [(0, "val 0.1"), (0, "0.5"), (0, "val 0.2"), (1, "1.5")]),
        (
            RunPosition(step=2, steps_in_epoch=2, validated=True),
            [(0, "val 0.1"), (0, "0.5"), (0, "val 0.2"), (1, "1.5"), (1, "val 1.2")],
        ),
        (RunPosition(step=1, steps_in_epoch=1), [(0, "val 0.1"), (0, "0.5")]),
        (RunPosition(), [(0, "val 0.1")]),
    ],
)
def test_a_resumed_log_holds_what_was_before_the_checkpoint(
    tmp_path: Path, position: RunPosition, kept: list[tuple[int, str]]
) -> None:
    write_log(tmp_path)
    folder, logger = RunFolder(tmp_path), CSVLogger(tmp_path, name="", version="")
    folder.go_back_to(position, checkpoint=tmp_path / "elsewhere.ckpt", loggers=[logger])
    assert rows(tmp_path) == kept
    logger.log_metrics({"train/loss": 9.0}, position.step)
    logger.save()
    assert rows(tmp_path) == [*kept, (position.step, "9.0")]
    folder.close()


def test_a_log_whose_continuation_was_killed_is_continued(tmp_path: Path) -> None:
    write_log(tmp_path)
    (tmp_path / "metrics.csv").rename(tmp_path / ".metrics.earlier.csv")
    folder, logger = RunFolder(tmp_path), CSVLogger(tmp_path, name="", version="")
    folder.go_back_to(RunPosition(step=1), checkpoint=tmp_path / "elsewhere.ckpt", loggers=[logger])
    assert rows(tmp_path) == [(0, "val 0.1"), (0, "0.5")]
    assert not (tmp_path / ".metrics.earlier.csv").exists()


def test_redone_rounds_newer_checkpoints_and_half_an_export_go(tmp_path: Path) -> None:
    (tmp_path / "trajectories").mkdir()
    trajectories = tmp_path / "trajectories" / "train.rank1.jsonl"
    lines = [json.dumps({"step": step, "reward": 0.5}) + "\n" for step in (0, 0, 1, 2)]
    trajectories.write_text("".join(lines) + '{"step": 3, "rew')
    (tmp_path / "checkpoints").mkdir()
    for step in (1, 2, 3):
        torch.save({"global_step": step}, tmp_path / "checkpoints" / f"step={step}.ckpt")
    (tmp_path / ".student.77.new").mkdir()
    folder = RunFolder(tmp_path)
    folder.note_finished(3)
    folder.go_back_to(RunPosition(step=2), checkpoint=tmp_path / "checkpoints" / "step=2.ckpt", loggers=[])
    assert trajectories.read_text() == "".join(lines[:3])
    assert sorted(file.name for file in (tmp_path / "checkpoints").iterdir()) == ["step=1.ckpt", "step=2.ckpt"]
    assert not (tmp_path / ".student.77.new").exists()
    assert folder.finished_step is None


def test_a_new_run_in_a_used_folder_begins_with_an_empty_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.begin_anew() is None
    for number in (1, 2):
        (tmp_path / "trajectories").mkdir()
        (tmp_path / "trajectories" / "train.rank0.jsonl").write_text(f'{{"step": {number}}}\n')
        (tmp_path / "my_references.jsonl").write_text("")
        folder.note_finished(number)
        assert folder.begin_anew() == tmp_path / f"earlier-{number}"
    assert folder.finished_step is None
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".lock",
        "earlier-1",
        "earlier-2",
        "my_references.jsonl",
    ]
    assert (tmp_path / "earlier-2" / "trajectories" / "train.rank0.jsonl").read_text() == '{"step": 2}\n'


def test_a_job_that_slurm_starts_again_goes_on_from_its_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, requeued = tmp_path / "last.ckpt", tmp_path / "hpc_ckpt_1.ckpt"
    last.write_text("")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert requeued_checkpoint(tmp_path, last) is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert requeued_checkpoint(tmp_path, last) == last
    requeued.write_text("")
    os.utime(last, ns=(1, 1))
    assert requeued_checkpoint(tmp_path, last) == requeued
    os.utime(requeued, ns=(0, 0))
    assert requeued_checkpoint(tmp_path, last) == last


def test_a_checkpoint_elsewhere_leaves_those_beside_it_alone(tmp_path: Path) -> None:
    for step in (1, 2):
        torch.save({"global_step": step}, tmp_path / f"step={step}.ckpt")
    RunFolder(tmp_path / "run").go_back_to(RunPosition(step=1), checkpoint=tmp_path / "step=1.ckpt", loggers=[])
    assert (tmp_path / "step=2.ckpt").exists()


@pytest.mark.integration  # a process that imports torch
def test_two_processes_cannot_use_one_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    script = (
        "import sys; from pathlib import Path; from mentor_pl.training.run_folder import RunFolder\n"
        "from mentor_pl.errors import ConfigError\n"
        "for _ in range(2):\n"
        "    try: RunFolder(Path(sys.argv[1])); print('taken', flush=True)\n"
        "    except ConfigError as error: print(error, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout is not None
        assert "is used by process " in second.stdout.readline()
        folder.close()
        assert second.communicate("\n\n")[0] == "taken\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        RunFolder(tmp_path / "file" / "run")
