"""The whole of `tests/unit/cli/test_wrong_configs.py`; MENTOR_PL_WRONG_CONFIGS=2000 sets how many."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cli.wrong_configs import (
    answer,
    before_the_student,
    faults_of,
    misspelt,
    mistyped,
    resolved_default,
    write,
)

COUNT = int(os.environ.get("MENTOR_PL_WRONG_CONFIGS", "60"))

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60 + 4 * COUNT)]


def test_no_wrong_config_ends_in_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with before_the_student(monkeypatch):
        default = resolved_default()
        cases = [*mistyped(default, COUNT, seed=1000), *misspelt(default, COUNT // 4, seed=1000)]
        faults = [fault for case in cases for fault in faults_of(case, answer(write(case, tmp_path)))]
    assert faults == []
