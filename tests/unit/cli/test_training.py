from pathlib import Path

import pytest

from mentor_pl.cli.run_dir import point_last_to


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_last_is_the_newest_run_under_runs(here: Path) -> None:
    for name in ("first", "second"):
        point_last_to(here / "runs" / name)
        assert (here / "runs/last").readlink() == Path(name)


def test_a_folder_called_last_is_left_alone(here: Path) -> None:
    (here / "runs/last/mine").mkdir(parents=True)
    point_last_to(here / "runs/first")
    assert (here / "runs/last/mine").is_dir()


@pytest.mark.parametrize("run_dir", ["mine", "runs", "runs/compare/0"])
def test_nothing_is_made_beside_a_folder_elsewhere(here: Path, run_dir: str) -> None:
    point_last_to(here / run_dir)
    assert (here / run_dir).is_dir()
    assert not list(here.rglob("last"))
