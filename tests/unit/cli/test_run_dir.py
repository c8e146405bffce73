"""Which folder a run takes where none is named."""

import os
from pathlib import Path

import pytest

from mentor_pl.cli.run_dir import choose_run_dir


@pytest.fixture(autouse=True)
def _in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_a_rank_that_lightning_launched_has_the_folder_of_the_first() -> None:
    first = choose_run_dir("runs/a", "fit")
    os.environ["LOCAL_RANK"] = "1"
    assert choose_run_dir(None, "fit") == first


@pytest.mark.parametrize("local_rank", [None, "0"])
def test_a_second_run_of_one_process_has_a_folder_of_its_own(tmp_path: Path, local_rank: str | None) -> None:
    first = choose_run_dir("elsewhere/first", "fit")
    if local_rank is not None:  # Lightning leaves it behind
        os.environ["LOCAL_RANK"] = local_rank
    second = choose_run_dir(None, "fit")
    assert second != first and second.parent == tmp_path / "runs"
