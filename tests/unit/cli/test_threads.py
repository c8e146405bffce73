"""Idle threads sleep soon, unless the user has said how they are to wait."""

import os
import subprocess
import sys

import pytest

SCRIPT = "import sys, mentor_pl.cli, os; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("chosen", "count"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_the_count_is_set_before_torch_is_there(chosen: dict[str, str], count: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env={**kept, **chosen}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", count]
