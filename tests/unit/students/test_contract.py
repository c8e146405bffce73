from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mentor_pl.students.base import StudentLoader
from mentor_pl.students.full import FullStudent
from mentor_pl.students.lora import LoraStudent
from mentor_pl.students.nf4 import Nf4LoraStudent
from mentor_pl.testing import check_student_loader


@pytest.mark.parametrize("loader", [FullStudent, LoraStudent, Nf4LoraStudent])
def test_loaders_keep_their_doors_contract(
    make_folder: Callable[..., Path], loader: Callable[[str], StudentLoader]
) -> None:
    check_student_loader(loader(str(make_folder())))
