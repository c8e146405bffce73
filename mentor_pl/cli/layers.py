"""What a user gave, before it is parsed: config files and arguments, in the order in which they count."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mentor_pl.cli.shipped import with_shipped_rewards
from mentor_pl.errors import UsageError

COMMAND_LINE = "the command line"
CONFIG_OPTIONS = ("-c", "--config")
INHERITED = "inherited init_args"
"""Key of the arguments of a class that another one has taken the place of."""

_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One config file, or one argument.

    Attributes:
        source: The file's path, or `COMMAND_LINE`.
        keys: Where its value belongs, from the outside in; empty for a file.
        value: A file's content, or an argument's value.
    """

    source: str
    keys: tuple[str, ...]
    value: Any


def read_layers(argv: Sequence[str], positional: Sequence[str] = ()) -> list[Layer]:
    """Read config files and arguments.

    Args:
        argv: The arguments, without the subcommand.
        positional: Names of the arguments that are given without a name, in order.

    Raises:
        UsageError: A config file cannot be read, or is no mapping.
    """
    unnamed = list(positional)
    layers: list[Layer] = []
    for option, value in options(argv):
        if option in CONFIG_OPTIONS:
            layers.append(_read_config(value))
        elif option is not None:
            keys = tuple(option.removeprefix("--").split("."))
            layers.append(Layer(source=COMMAND_LINE, keys=keys, value=True if value is None else loaded(value)))
        elif unnamed:
            layers.append(Layer(source=COMMAND_LINE, keys=(unnamed.pop(0),), value=value))
    return layers


def options(argv: Sequence[str]) -> Iterator[tuple[str | None, str | None]]:
    """Give each argument as its name and value; no name where it has none, no value where it is a flag."""
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") and name not in CONFIG_OPTIONS:
            yield None, word
        elif equals:
            yield name, value
        else:
            yield name, rest.pop(0) if rest and not rest[0].startswith("--") else None


def _read_config(given: str | None) -> Layer:
    if given is None:
        raise UsageError("--config names no file; give one, or the name of a shipped config, for example mentor")
    if given.lstrip().startswith("{"):
        return Layer(source=COMMAND_LINE, keys=(), value=_mapping(loaded(given), COMMAND_LINE))
    return Layer(source=given, keys=(), value=_mapping(read_yaml(Path(given)), given))


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UsageError: It cannot be read, or is no YAML.
    """
    try:
        return with_shipped_rewards(yaml.safe_load(path.read_text(encoding="utf-8")), path.parent)
    except OSError as problem:
        raise UsageError(f"config {path} cannot be read: {problem.strerror}; name a YAML file") from problem
    except UnicodeDecodeError as problem:
        raise UsageError(f"config {path} is no text: {problem.reason}; name a YAML file") from problem
    except yaml.YAMLError as problem:
        where = getattr(problem, "problem_mark", None)
        line = "" if where is None else f", line {where.line + 1}"
        what = getattr(problem, "problem", None) or " ".join(str(problem).split())
        raise UsageError(f"config {path}{line} is no YAML: {what}; mend that line") from problem
    except (ValueError, RecursionError) as problem:  # a date or number that there is not; brackets without end
        raise UsageError(f"config {path} is no YAML: {problem}; mend it") from problem


def _mapping(value: Any, source: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"config {source} holds a {type(value).__name__}; it must map keys to values, as `data: ...`")
    if other := [key for key in value if not isinstance(key, str)]:
        raise UsageError(f"config {source} has the key {other[0]!r}, which YAML reads as no text; write it in quotes")
    return value


def loaded(text: str) -> Any:
    """Read an argument as YAML; as it is where it is none."""
    try:
        return with_shipped_rewards(yaml.safe_load(text), Path())
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return what all layers say together; later ones win."""
    tree: dict[str, Any] = {}
    folders = [Path(), *(Path(layer.source).parent for layer in layers if layer.source != COMMAND_LINE)]
    for layer in layers:
        _put(tree, layer.keys, copy.deepcopy(layer.value), folders)
    return tree


def _put(node: dict[str, Any], keys: Sequence[str], value: Any, folders: Sequence[Path]) -> None:
    if not keys:
        _merge(node, value)
        return
    key, *rest = keys
    if "class_path" in node and key not in _CLASS_KEYS:  # `--model.loss.clip_low` is short for `.init_args.clip_low`
        node = node.setdefault("init_args", {})
    if not rest:
        if isinstance(file := node.get(key.removesuffix("+")), str) and key.endswith("+"):
            node[key[:-1]] = _read_or_nothing(file, folders)
        _merge(node, {key: value})
        return
    below = node.get(key)
    if isinstance(below, list) and below and isinstance(below[-1], dict):  # a list's last item is meant
        below = below[-1]
    elif isinstance(below, str) and not below.endswith((".yaml", ".yml")):
        node[key] = below = {"class_path": below}
    elif isinstance(below, str):
        content = _read_or_nothing(below, folders)
        node[key] = below = content if isinstance(content, dict) else {}
    elif not isinstance(below, dict):
        node[key] = below = {}
    _put(below, rest, value, folders)


def _read_or_nothing(name: str, folders: Sequence[Path]) -> Any:
    for folder in folders:
        try:
            return read_yaml(folder / name)
        except UsageError:
            continue
    return {}


def _merge(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        before = old.get(key)
        if isinstance(key, str) and key.endswith("+"):
            listed = old.get(key[:-1])
            old[key[:-1]] = [
                *(listed if isinstance(listed, list) else []),
                *(value if isinstance(value, list) else [value]),
            ]
        elif isinstance(before, dict) and isinstance(value, dict):
            if "class_path" in value and value["class_path"] != before.get("class_path"):
                _leave(before)
            _merge(before, value)
        elif isinstance(before, dict) and isinstance(value, str) and "class_path" in before:
            if value != before["class_path"]:
                _leave(before)
            before["class_path"] = value
        else:
            old[key] = value


def _leave(node: dict[str, Any]) -> None:
    """Set the arguments of a class apart, where another one takes its place; it keeps those that it takes too."""
    before = node.pop("init_args", None)
    node[INHERITED] = {**node.get(INHERITED, {}), **(before if isinstance(before, dict) else {})}


def source_of(layers: Sequence[Layer], keys: Sequence[str]) -> str:
    """Say which layer a value comes from: the last one that says something at or below that place."""
    for layer in reversed(layers):
        given = tuple(key.removesuffix("+") for key in layer.keys)
        if given and given == tuple(keys)[: len(given)]:
            return layer.source
        if not given and _holds(layer.value, keys):
            return layer.source
    return COMMAND_LINE


def _holds(value: Any, keys: Sequence[str]) -> bool:
    if not keys:
        return True
    return isinstance(value, dict) and any(k in value and _holds(value[k], keys[1:]) for k in (keys[0], f"{keys[0]}+"))
