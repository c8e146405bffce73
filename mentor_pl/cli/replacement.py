"""A later layer's list takes the place of an earlier one's.

jsonargparse merges two lists of the same length item by item. A reward term without a gate would so
inherit the gate of the term that stood in its place, and a reward file would keep the exits of the
file before it. What is replaced is therefore emptied first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mentor_pl.cli.layers import CONFIG_OPTIONS, Layer, options, read_layers
from mentor_pl.errors import UsageError

_WHOLE = ("data", "reward")
"""A file named here is the whole value."""

_LISTS = (("data", "reward", "terms"), ("data", "reward", "exits"), ("data", "tools"), ("data", "train"))

_MAPPINGS = (("data", "evaluation"),)
"""Splits of an earlier layer are gone, and those of one name inherit nothing, as a list's items."""


def with_replacement(argv: Sequence[str]) -> list[str]:
    """Return the arguments with what empties a list, or the reward, before what replaces it."""
    out: list[str] = []
    for number, (name, value) in enumerate(options(argv)):
        if name is None or value is None:
            out.append(str(value) if name is None else name)
            continue
        if number:
            out += _emptied(name, value)
        out.append(f"{'--config' if name in CONFIG_OPTIONS else name}={value}")
    return out


def _emptied(name: str, value: str) -> Iterator[str]:
    try:
        (layer,) = read_layers([f"{name}={value}"])
    except UsageError:  # told where the argument itself is parsed
        return
    if _value(layer, _WHOLE, str) is not None:
        yield f"--{'.'.join(_WHOLE)}=null"
    for keys in _MAPPINGS:
        if _value(layer, keys, dict) is not None:
            yield f"--{'.'.join(keys)}=null"
    for keys in _LISTS:
        if _value(layer, keys, list) is not None:
            yield f"--{'.'.join(keys)}=[]"


def _value(layer: Layer, keys: tuple[str, ...], kind: type) -> Any:
    """Return a layer's value for a key where it is of a kind; None where it is not, or where the layer says nothing of it."""
    if layer.keys != keys[: len(layer.keys)]:
        return None
    value = layer.value
    for key in keys[len(layer.keys) :]:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, kind) else None
