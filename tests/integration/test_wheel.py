"""The wheel is enough: what the README's first page shows runs from an empty folder, without a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as `pip install` would lay it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, timeout=280)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def mentor_pl(installed: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mentor_pl", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SHORT = ("--trainer.max_steps=2", "--trainer.enable_progress_bar=false")


@pytest.mark.integration
def test_a_project_of_ones_own(installed: Path, tmp_path: Path) -> None:
    mentor_pl(installed, tmp_path, "init", "p")
    shown = mentor_pl(installed, tmp_path / "p", "fit", "--config", "mentor.yaml", *SHORT)
    assert "held_out" in shown and (tmp_path / "p" / "runs" / "last" / "student" / "config.json").is_file()


@pytest.mark.integration
def test_a_shipped_config_by_name(installed: Path, tmp_path: Path) -> None:
    small = ("--data.max_problems=4", "--data.prompts_per_round=4", "--data.group_size=4")
    shown = mentor_pl(installed, tmp_path, "fit", "--config", "mentor", *SHORT, *small)
    assert "combo" in shown and (tmp_path / "runs" / "last" / "summary.json").is_file()
