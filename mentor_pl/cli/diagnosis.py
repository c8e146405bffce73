"""Which value of a config a parser refused, and why: found in the config itself, not in the parser's message.

jsonargparse parses; where it refuses, its message lists every alternative of every type around the
culprit. This module walks what the user gave beside the types and names the innermost value that
does not fit.
"""

from __future__ import annotations

import collections.abc
import importlib
import itertools
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from mentor_pl.cli.layers import COMMAND_LINE, INHERITED, merged, read_layers, read_yaml, source_of
from mentor_pl.cli.names import installed, is_abstract, renamed, suggestion, unknown_class, with_distribution
from mentor_pl.cli.schema import (
    accepts,
    admits_null,
    classes,
    described,
    item_type,
    members,
    parameters,
    refusal,
    required,
    subclasses,
    value_type,
)
from mentor_pl.cli.shipped import reward_names
from mentor_pl.rewards.program import RewardProgram

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A value that does not fit.

    Attributes:
        keys: Where it stands, from the outside in.
        problem: What is wrong and what would be right, to be read after the place.
    """

    keys: Keys
    problem: str

    def __str__(self) -> str:
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys).removeprefix(".")
        return f"{place} {self.problem}" if self.problem.startswith("is ") else f"{place}: {self.problem}"


def diagnose(message: str, argv: Sequence[str], schema: Mapping[str, Any], positional: Sequence[str] = ()) -> str:
    """Say in one line what a parser refused.

    Args:
        message: The parser's own message; what is left of it is the last resort.
        argv: The arguments, without the subcommand.
        schema: The type of each key at the top level, or the class or function whose parameters lie
            below it.
        positional: Names of the arguments that are given without a name.

    Raises:
        UsageError: A config file cannot be read.
    """
    layers = read_layers(argv, positional)
    folders = [Path(layer.source).parent for layer in layers if layer.source != COMMAND_LINE]
    fault = _find(merged(layers), schema, [*folders, Path()], "this command")
    if fault is None:
        return one_line(message)
    in_mappings = itertools.takewhile(lambda key: isinstance(key, str), fault.keys)
    source = source_of(layers, [str(key) for key in in_mappings])
    return str(fault) if source == COMMAND_LINE else f"{source}: {fault}"


def diagnose_values(message: str, values: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Say in one line what a parser refused of values that come from elsewhere; else as `diagnose`."""
    fault = _find(values, schema, [Path()], "this config")
    return one_line(message) if fault is None else str(fault)


def _find(values: Mapping[str, Any], schema: Mapping[str, Any], folders: Sequence[Path], owner: str) -> Fault | None:
    """Look for what is there and wrong, and then for what is missing."""
    for complete in (False, True):
        if fault := _Walk(folders, complete=complete).arguments(values, schema, (), owner):
            return fault
    return None


def one_line(message: str, limit: int = 400) -> str:
    """Return a message without line breaks, cut where it is long."""
    text = " ".join(message.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class _Walk:
    """Looks for the innermost value that does not fit its type."""

    def __init__(self, folders: Sequence[Path], *, complete: bool) -> None:
        self._folders = folders
        self._complete = complete

    def call(self, given: Mapping[str, Any], owner: Callable[..., Any], keys: Keys) -> Fault | None:
        """Check names and values of the arguments of a class or function."""
        known = parameters(owner)
        if fault := self.arguments(given, known, keys, with_distribution(owner)):
            return fault
        for name, value in given.items():
            if known[name] is Any and (reason := refusal(owner, name, value)):
                return Fault(keys=(*keys, name), problem=f"is {_shown(value)}; {reason[:1].lower()}{reason[1:]}")
        return None

    def arguments(self, given: Mapping[str, Any], known: Mapping[str, Any], keys: Keys, owner: str) -> Fault | None:
        """Check names and values of arguments."""
        for name in given:
            if name not in known and (keys or name not in ("config", "print_config", "help")):
                takes = ", ".join(known) or "no arguments"
                said = renamed(str(name)) or f"{owner} takes no {name!r}{suggestion(name, known)}; it takes {takes}"
                return Fault(keys=(*keys, str(name)), problem=said)
        for name, value in given.items():
            if name in known and (fault := self.value(value, known[name], (*keys, name))):
                return fault
        return None

    def value(self, value: Any, hint: Any, keys: Keys) -> Fault | None:
        """Check one value against its type."""
        if isinstance(hint, Group):
            if isinstance(value, str) and value.endswith((".yaml", ".yml", ".json")):
                value = self._content(value, keys)
            if isinstance(value, Fault):
                return value
            if isinstance(value, Mapping):
                return self.call(value, hint.owner, keys)
            return Fault(keys=keys, problem=f"is {_shown(value)}; expected a mapping of keys to values")
        if value is None:
            return None if admits_null(hint) else Fault(keys=keys, problem=f"is null; expected {described(hint)}")
        if named := classes(hint):
            return self._object(value, hint, named, keys)
        if isinstance(value, list) and (item := item_type(hint)) is not None:
            return self._first((self.value(v, item, (*keys, i)) for i, v in enumerate(value)), value, hint, keys)
        if isinstance(value, Mapping) and (item := value_type(hint)) is not None:
            return self._first((self.value(v, item, (*keys, str(k))) for k, v in value.items()), value, hint, keys)
        return self._leaf(value, hint, keys)

    def _first(self, faults: Any, value: Any, hint: Any, keys: Keys) -> Fault | None:
        return next((fault for fault in faults if fault is not None), None) or self._whole(value, hint, keys)

    def _whole(self, value: Any, hint: Any, keys: Keys) -> Fault | None:
        """Check a list or mapping of plain values as a whole; of objects the items alone say enough."""
        item = item_type(hint) if isinstance(value, list) else value_type(hint)
        return None if classes(item) else self._leaf(value, hint, keys)

    def _leaf(self, value: Any, hint: Any, keys: Keys) -> Fault | None:
        if accepts(hint, value):
            return None
        return Fault(keys=keys, problem=f"is {_shown(value)}; expected {described(hint)}")

    def _object(self, value: Any, hint: Any, bases: tuple[type, ...], keys: Keys) -> Fault | None:
        if isinstance(value, str):
            if value.endswith((".yaml", ".yml", ".json")):
                content = self._content(value, keys, bases)
                return content if isinstance(content, Fault) else self._object(content, hint, bases, keys)
            if _takes_text(hint):
                return None if accepts(hint, value) else self._named(value, bases, keys)
            if _is_written_in_files(bases) and value not in {base.__name__ for base in bases}:
                return self._no_file(value, bases, keys)
            return self._named(value, bases, keys)
        if isinstance(value, Mapping):
            name = value.get("class_path")
            if isinstance(name, str):
                return self._named(name, bases, keys) or self._built(
                    value, _resolved(name, bases), keys, whole=not _is_made_later(hint)
                )
            if name is None and len(bases) == 1 and not is_abstract(bases[0]):
                given = value.get("init_args", value)
                return self.call(given, bases[0], keys) or self._lacking(given, bases[0], keys)
            if (item := value_type(hint)) is not None:
                return self._first((self.value(v, item, (*keys, str(k))) for k, v in value.items()), value, hint, keys)
            return Fault(keys=keys, problem=f"is {_shown(value)}; expected class_path: NAME, {installed(bases)}")
        if isinstance(value, list) and (item := item_type(hint)) is not None:
            return self._first((self.value(v, item, (*keys, i)) for i, v in enumerate(value)), value, hint, keys)
        if all(map(is_dataclass, members(hint))):  # jsonargparse takes a list for one of its values
            return Fault(keys=keys, problem=f"is {_shown(value)}; expected {described(hint)}: keys and values")
        if accepts(hint, value):
            return None
        return Fault(keys=keys, problem=f"is {_shown(value)}; expected {described(hint)}, {installed(bases)}")

    def _built(self, value: Mapping[str, Any], owner: Any, keys: Keys, *, whole: bool) -> Fault | None:
        for key in value:
            if key not in ("class_path", "init_args", "dict_kwargs", INHERITED):
                return Fault(keys=(*keys, str(key)), problem=f"write it under init_args of {owner.__name__}")
        given = {} if value.get("init_args") is None else value["init_args"]
        if not isinstance(given, Mapping):
            return Fault(keys=(*keys, "init_args"), problem=f"is {_shown(given)}; expected arguments by name")
        if fault := self.call(given, owner, (*keys, "init_args")):
            return fault
        return self._lacking({**given, **value.get(INHERITED, {})}, owner, keys, " under init_args") if whole else None

    def _lacking(self, given: Mapping[str, Any], owner: Any, keys: Keys, where: str = "") -> Fault | None:
        lacking = [name for name in required(owner) if name not in given]
        if self._complete and lacking:
            return Fault(keys=keys, problem=f"{owner.__name__} needs {', '.join(lacking)}{where}")
        return None

    def _named(self, name: str, bases: tuple[type, ...], keys: Keys) -> Fault | None:
        """Check the name of a class."""
        try:
            owner = _resolved(name, bases)
        except Exception as problem:  # whatever a stranger's import raises
            return Fault(keys=keys, problem=f"{name} cannot be imported: {type(problem).__name__}: {problem}")
        if owner is None:
            takes_file = any("references" in parameters(base) for base in bases)
            is_meant = takes_file and any((folder / name).is_file() for folder in self._folders)
            hint = f"; the file {name} is written {{references: {name}}}" if is_meant else ""
            return Fault(keys=keys, problem=unknown_class(name, bases) + hint)
        if isinstance(owner, type) and not issubclass(owner, bases):
            wanted = " or ".join(base.__name__ for base in bases)
            return Fault(keys=keys, problem=f"{name} is no {wanted}; {installed(bases)}")
        return None

    def _content(self, name: str, keys: Keys, bases: tuple[type, ...] = ()) -> Any:
        """Read a config that another one names; relative to that one's folder, or to the working directory."""
        for folder in self._folders:
            if (folder / name).is_file():
                return read_yaml(folder / name)
        return self._no_file(name, bases, keys)

    def _no_file(self, name: str, bases: tuple[type, ...], keys: Keys) -> Fault:
        looked = " or ".join(dict.fromkeys(str(folder.absolute()) for folder in self._folders))
        shipped = f", nor a shipped reward of that name; shipped are {', '.join(reward_names())}"
        nor = shipped if RewardProgram in bases else ""
        return Fault(keys=keys, problem=f"there is no file {name} in {looked}{nor}; mend the path")


@dataclass(frozen=True, slots=True)
class Group:
    """A class or function whose parameters are the keys below a key.

    Attributes:
        owner: The class or function.
    """

    owner: Callable[..., Any]


def _is_written_in_files(bases: tuple[type, ...]) -> bool:
    """Say whether a text can only name a file: there is nothing to choose from, as of plugins there is."""
    return all(not is_abstract(base) and len(list(subclasses(base))) == 1 for base in bases)


def _resolved(name: str, bases: tuple[type, ...]) -> Any:
    """Return the class or function of a name; None where there is none."""
    if "." not in name:
        return next((c for base in bases for c in subclasses(base) if c.__name__ == name), None)
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as missing:
        if missing.name is not None and (module == missing.name or module.startswith(f"{missing.name}.")):
            return None
        raise


def _is_made_later(hint: Any) -> bool:
    """Say whether a callable is wanted, as for an optimiser: then some arguments are still to come."""
    return any(typing.get_origin(member) is collections.abc.Callable for member in members(hint))


def _takes_text(hint: Any) -> bool:
    return any(member is str or (not classes(member) and accepts(member, "x")) for member in members(hint))


def _shown(value: Any) -> str:
    return one_line(repr(value), 120)
