import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Scripts are no package: import one by its name from their folder."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "scripts")
    return importlib.import_module
