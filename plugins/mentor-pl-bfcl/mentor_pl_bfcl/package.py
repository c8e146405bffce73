"""The one place that imports `bfcl-eval`: its checkers, without the eighty packages of its model handlers."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mentor_pl.errors import ConfigError

_MODELS = "bfcl_eval.constants.model_config"
MODEL_NAME = "mentor"
"""The name under which our outputs are checked. Function names keep their dots."""


@functools.cache
def data_folder() -> Path:
    """Return the folder of the package's cases.

    Raises:
        ConfigError: The package is not installed.
    """
    found = importlib.util.find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("BFCL needs the package bfcl-eval; install it by `pip install --no-deps bfcl-eval`")
    return Path(next(iter(found.submodule_search_locations))) / "data"


@functools.cache
def checker(name: str) -> types.ModuleType:
    """Import one of the package's checkers.

    Args:
        name: Within `bfcl_eval.eval_checker`, for example `ast_eval.ast_checker`.

    Raises:
        ConfigError: The package is not installed, or its checkers are not where they were.
    """
    data_folder()
    try:
        with _without_model_handlers():
            return importlib.import_module(f"bfcl_eval.eval_checker.{name}")
    except ImportError as failure:
        raise ConfigError(
            f"bfcl_eval.eval_checker.{name} cannot be imported ({failure}); this plugin was tried with bfcl-eval 2026.3.23"
        ) from failure


@contextmanager
def _without_model_handlers() -> Iterator[None]:
    """Stand in for the table of models, whose import wants the client of every provider.

    The checkers ask it one thing: whether a model writes "_" where a function's name has ".".
    """
    before = sys.modules.get(_MODELS)
    stand_in: Any = types.ModuleType(_MODELS)
    stand_in.MODEL_CONFIG_MAPPING = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))
    sys.modules[_MODELS] = stand_in
    try:
        yield
    finally:
        if before is None:
            del sys.modules[_MODELS]
        else:
            sys.modules[_MODELS] = before
