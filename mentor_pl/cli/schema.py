"""What a config may say: the parameters of a class or function, and whether a value fits one of them."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jsonargparse import ArgumentParser

_LEAVES = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "a mapping",
    list: "a list",
    type(None): "null",
}
_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@functools.cache
def parameters(owner: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters of a class or function by name, each with its type.

    What a constructor passes on as `**kwargs` is counted in. A parameter whose default is null takes
    null, whatever its annotation says.
    """
    hints: dict[str, Any] = {}
    sources = [c.__init__ for c in reversed(owner.__mro__)] if isinstance(owner, type) else [owner]
    for source in sources:
        try:
            hints |= typing.get_type_hints(source)
        except Exception:  # a stranger's annotation need not resolve here
            continue
    parser = ArgumentParser()
    try:
        if isinstance(owner, type):
            added = parser.add_class_arguments(owner, fail_untyped=False)
        else:
            added = parser.add_function_arguments(owner, fail_untyped=False)
        names = [name.partition(".")[0] for name in added]
        resolved = {action.dest: vars(action).get("_typehint", Any) for action in parser._actions}
        hints = resolved | hints
    except Exception:  # jsonargparse cannot describe a stranger's class; its own signature still names the arguments
        names = list(_signature(owner))
    nullable = {name for name, p in _signature(owner).items() if p.default is None}
    return {name: hints.get(name, Any) | None if name in nullable else hints.get(name, Any) for name in names}


def _signature(owner: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(owner).parameters
    except (TypeError, ValueError):  # a constructor written in C
        return {}


def required(owner: Callable[..., Any]) -> list[str]:
    """Return the parameters of a class or function that have no default."""
    plain = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, p in _signature(owner).items() if p.default is p.empty and p.kind not in plain]


def members(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, one by one; other types as they are."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return members(typing.get_args(hint)[0])
    if isinstance(hint, typing.TypeVar):
        return members(hint.__bound__ or Any)
    if origin in (typing.Union, types.UnionType):
        return tuple(member for arg in typing.get_args(hint) for member in members(arg))
    return (hint,)


def admits_null(hint: Any) -> bool:
    """Say whether null is a value of the type."""
    return any(member in (None, type(None), Any, object) for member in members(hint))


def item_type(hint: Any) -> Any:
    """Return the type of a list's items, by the first alternative that is a list; None where there is none."""
    for member in members(hint):
        if (typing.get_origin(member) or member) in _LISTS:
            return next(iter(typing.get_args(member)), Any)
    return None


def value_type(hint: Any) -> Any:
    """Return the type of a mapping's values, by the first alternative that is a mapping; None where there is none."""
    for member in members(hint):
        if (typing.get_origin(member) or member) in _MAPPINGS:
            return (*typing.get_args(member), Any, Any)[1]
    return None


def classes(hint: Any) -> tuple[type, ...]:
    """Return the classes among the alternatives that a config names by `class_path`; what a callable gives counts too."""
    found: list[type] = []
    for member in members(hint):
        if typing.get_origin(member) is collections.abc.Callable:
            found += classes(typing.get_args(member)[-1])
        elif inspect.isclass(member) and typing.get_origin(member) is None and not _is_plain(member):
            found.append(member)
    return tuple(found)


def _is_plain(member: type) -> bool:
    return member.__module__ in ("builtins", "pathlib", "enum", "typing", "collections.abc", "datetime")


def subclasses(base: type) -> Iterator[type]:
    """Yield a class and all that extend it, as far as they are imported."""
    yield base
    for child in type.__subclasses__(base):
        yield from subclasses(child)


def accepts(hint: Any, value: Any) -> bool:
    """Say whether jsonargparse takes a value for the type."""
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_argument("--value", type=hint)
        parser.parse_object({"value": value})
    except Exception:  # whatever it raises, it does not take it
        return False
    return True


def refusal(owner: Callable[..., Any], name: str, value: Any) -> str | None:
    """Say why a parameter of a class or function does not take a value; None where it does.

    Slower than `accepts`, but it knows the types of what is passed on as `**kwargs`.
    """
    parser = ArgumentParser(exit_on_error=False)
    skip: set[str | int] = {parameter for parameter in parameters(owner) if parameter != name}
    try:
        if isinstance(owner, type):
            parser.add_class_arguments(owner, skip=skip, fail_untyped=False)
        else:
            parser.add_function_arguments(owner, skip=skip, fail_untyped=False)
        parser.parse_object({name: value})
    except Exception as failure:
        text = " ".join(str(failure).split())
        return text.removeprefix(f'Parser key "{name}": ').partition(". Got value")[0]
    return None


def described(hint: Any) -> str:
    """Say in words what a type asks for."""
    return " or ".join(dict.fromkeys(_described(member) for member in members(hint)))


def _described(member: Any) -> str:
    origin = typing.get_origin(member)
    if member in (None, type(None)):
        return "null"
    if origin is typing.Literal:
        return " or ".join(str(choice) for choice in typing.get_args(member))
    if (origin or member) in _LISTS and (item := item_type(member)) is not Any:
        return f"a list, each item {described(item)}"
    if (origin or member) in _MAPPINGS:
        return "a mapping"
    if named := classes(member):
        return f"a {_names(c.__name__ for c in named)}"
    if inspect.isclass(member):
        return _LEAVES.get(member, f"a {member.__name__.lower()}")
    return str(member).removeprefix("typing.")


def _names(names: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(names))
