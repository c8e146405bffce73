"""What a constructor refuses, as the user's error: its arguments come from the config."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mentor_pl.cli.diagnosis import one_line
from mentor_pl.cli.schema import admits_null, described, parameters
from mentor_pl.errors import ConfigError

_PLAIN = (str, int, float, list, tuple, dict)
"""What a config can say of an argument by itself."""

_MOST_NAMED = 3


def constructor_error(
    owner: Callable[..., Any], failure: Exception, arguments: Mapping[str, Any] | None = None
) -> ConfigError:
    """Return what a constructor raised as an error that names the arguments at fault.

    Args:
        owner: The class or function.
        failure: What it raised.
        arguments: What it was given, by name.
    """
    kind = "" if isinstance(failure, ValueError) else f"{type(failure).__name__}: "
    said = one_line(str(failure))
    names_one = any(re.search(rf"\b{re.escape(name)}\b", said) for name in arguments or {})
    culprits = {} if names_one else _culprits(owner, failure, arguments or {})
    shown = "".join(f"; {name} is {one_line(repr(value), 120)}" for name, value in culprits.items())
    error = ConfigError(f"{owner.__name__} cannot be made: {kind}{said}{shown}; mend its arguments")
    error.__cause__ = failure
    return error


def _culprits(owner: Callable[..., Any], failure: Exception, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that stand in the innermost frame of a failure in which any of them stand."""
    given = dict(_unusual(owner, arguments))
    for frame, _ in reversed(list(traceback.walk_tb(failure.__traceback__))):
        held = [value for value in frame.f_locals.values() if isinstance(value, _PLAIN)]
        if frame.f_globals.get("__name__") == __name__:
            continue
        found = {
            name: value
            for name, value in given.items()
            if any(type(value) is type(other) and value == other for other in held)
        }
        if found:
            return dict(list(found.items())[:_MOST_NAMED])
    return {}


def _unusual(owner: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the plain arguments that are not the defaults."""
    try:
        known: Mapping[str, inspect.Parameter] = inspect.signature(owner).parameters
    except (TypeError, ValueError):  # a constructor written in C
        known = {}
    for name, value in arguments.items():
        if _is_plain(value) and not (name in known and known[name].default == value):
            yield name, value


def _is_plain(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return isinstance(value, _PLAIN) and all(item is None or _is_plain(item) for item in items)


def refuse_nulls(owner: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse null where neither the type nor the default of a parameter is null; jsonargparse lets it pass.

    Raises:
        ConfigError: An argument is null and must not be.
    """
    hints = parameters(owner)
    for name, value in arguments.items():
        if value is None and not admits_null(hint := hints.get(name, Any)):
            raise ConfigError(f"{owner.__name__}: {name} is null; expected {described(hint)}")
