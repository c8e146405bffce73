"""The reference files of a run, by the name of their split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mentor_pl.errors import ConfigError


def named_files(references: str, evaluation: Mapping[Any, str] | None) -> dict[str, str]:
    """Return every split's file; training's is called `train`.

    Args:
        references: `data.references`.
        evaluation: `data.evaluation`, as YAML gave it: `no` and `2024` are keys too, and no text.

    Raises:
        ConfigError: A name or file cannot be one.
    """
    if not references:
        raise ConfigError("data.references is empty; name a reference file")
    for name, file in (evaluation or {}).items():
        if not isinstance(name, str):
            raise ConfigError(f"data.evaluation has the split {name!r}, which YAML reads as no text; quote its name")
        if name == "train":
            raise ConfigError(
                "data.evaluation has a split named 'train', which is what data.references is called; rename it"
            )
        if not file:
            raise ConfigError(f"data.evaluation.{name} is empty; name a reference file")
    return {"train": references, **(evaluation or {})}
