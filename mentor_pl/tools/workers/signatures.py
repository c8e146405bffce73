"""From a user's functions to tools: type hints and docstring become a JSON Schema and a strict validator of arguments."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, cast, get_type_hints

import docstring_parser
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolSpec
from mentor_pl.tools.schema import short_schema

QUESTIONS = ("state", "score")
"""Methods of a class that are no tools: they tell its state, and judge it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedFunction:
    """A function and what its signature says.

    Attributes:
        spec: As offered to a model.
        arguments: Validates the JSON text of the arguments object and converts it to the annotated
            Python types.
        function: What is called; for a method the plain function, whose first argument is the
            instance.
    """

    spec: ToolSpec
    arguments: TypeAdapter[dict[str, Any]]
    function: Callable[..., Any]


def _as_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return value is not None


def typed_function(function: Callable[..., Any], *, method: bool = False) -> TypedFunction:
    """Read one function's signature and Google docstring.

    Args:
        function: Every parameter carries a type hint that pydantic knows.
        method: True where the first parameter is the instance.

    Raises:
        ConfigError: A parameter has no type hint, or one without a JSON Schema, or cannot be passed
            by name.
    """
    name = function.__name__
    doc = docstring_parser.parse(inspect.getdoc(function) or "", style=docstring_parser.DocstringStyle.GOOGLE)
    described = {item.arg_name: " ".join((item.description or "").split()) for item in doc.params}
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as unknown:
        raise ConfigError(f"tool {name!r}: a type hint cannot be resolved: {unknown}") from unknown
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[int(method) :]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(
                f"tool {name!r}: parameter '{parameter}' cannot be passed by name; give it a name of its own"
            )
        if parameter.name not in hints:
            raise ConfigError(f"tool {name!r}: parameter {parameter.name!r} has no type hint; annotate it")
        extra = {"default": parameter.default} if _as_json(parameter.default) else None
        about = Field(description=described.get(parameter.name), json_schema_extra=extra)
        hint = Annotated[hints[parameter.name], about]
        fields[parameter.name] = hint if parameter.default is parameter.empty else NotRequired[hint]
    # strict: a number written as text is the student's mistake to learn from, not ours to mend.
    shape = cast("Any", TypedDict)(name, fields)
    shape.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    try:
        arguments = cast("TypeAdapter[dict[str, Any]]", TypeAdapter(shape))
        schema = short_schema(arguments.json_schema())
    except PydanticUserError as unfit:
        reason = str(unfit).splitlines()[0]
        raise ConfigError(f"tool {name!r}: a type hint has no JSON Schema: {reason}") from unfit
    summary = [part for part in (doc.short_description, doc.long_description) if part]
    parameters = {"type": "object", "properties": schema.get("properties", {})}
    if required := schema.get("required"):
        parameters["required"] = required
    spec = ToolSpec(name=name, description="\n".join(summary), parameters=parameters)
    return TypedFunction(spec=spec, arguments=arguments, function=function)


def _where(location: tuple[int | str, ...], arguments: Any, *, missing: bool) -> str:
    """Write an error's place as `numbers[1].x`, leaving out the names of union members that pydantic puts in between."""
    path, node = "", arguments
    for index, part in enumerate(location):
        inside = isinstance(part, int) or (isinstance(node, dict) and part in node)
        if inside or (missing and index == len(location) - 1):
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
            node = cast("Any", node)[part] if inside else None
    return path.removeprefix(".")


def explain(error: ValidationError, arguments: bytes) -> str:
    """Say in one line what is wrong with a call's arguments.

    Args:
        error: What the validator said.
        arguments: The JSON text that it was given.
    """
    items = error.errors(include_url=False)
    if items[0]["type"] == "json_invalid":
        return items[0]["msg"]
    data = json.loads(arguments)
    reasons: dict[str, list[str]] = {}
    for item in items:
        missing = item["type"] == "missing"
        reason = {"missing": "is missing", "extra_forbidden": "is not an argument"}.get(item["type"], item["msg"])
        said = reasons.setdefault(_where(item["loc"], data, missing=missing), [])
        # Each member of a union complains for itself: 'a valid integer', 'a valid number'.
        reason = reason.replace("Input should", "should")
        said.append(reason.replace("should be ", "or ", 1) if said else reason)
    return "; ".join(f"{where!r} {' '.join(said)}" for where, said in reasons.items())[:400]


def _import(module: str) -> types.ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"tools file {module!r} does not exist; paths are relative to {Path.cwd()}")
    loaded = importlib.util.module_from_spec(spec)
    # Resolving type hints and pickling look a module up by name.
    sys.modules.setdefault(path.stem, loaded)
    spec.loader.exec_module(loaded)
    return loaded


def _public(owner: types.ModuleType | type, module: types.ModuleType) -> list[str]:
    listed = getattr(owner, "__all__", None)
    if listed is not None:
        return [name for name in listed if inspect.isfunction(getattr(owner, name, None))]
    reserved = QUESTIONS if isinstance(owner, type) else ()
    return [
        name
        for name, member in vars(owner).items()
        if not name.startswith("_")
        and name not in reserved
        and inspect.isfunction(member)
        and member.__module__ == module.__name__
    ]


def load_functions(module: str, functions: Sequence[str] | None) -> tuple[dict[str, TypedFunction], type | None]:
    """Import a user's module and read its tools.

    Args:
        module: Import path or path of a `.py` file; `:Class` behind it takes the class's public
            methods instead.
        functions: Names to offer; None offers `__all__`, or else every public function that the
            module itself defines.

    Returns:
        The tools by name, and the class of which each session gets an instance (None for plain
        functions).

    Raises:
        ConfigError: The module cannot be imported, lacks a function or class, or a signature cannot
            be offered.
    """
    path, _, class_name = module.partition(":")
    try:
        loaded = _import(path)
    except ConfigError:
        raise
    except Exception as failure:  # whatever a user's module raises on import is the user's to read
        raise ConfigError(f"tools module {path!r} cannot be imported: {type(failure).__name__}: {failure}") from failure
    owner = getattr(loaded, class_name, None) if class_name else loaded
    if class_name and not isinstance(owner, type):
        raise ConfigError(f"tools module {path!r} has no class {class_name!r}")
    assert owner is not None
    names = list(functions) if functions is not None else _public(owner, loaded)
    tools: dict[str, TypedFunction] = {}
    for name in names:
        member = getattr(owner, name, None)
        if not inspect.isfunction(member):
            raise ConfigError(
                f"{module!r} has no function {name!r}; it has {', '.join(_public(owner, loaded)) or 'none'}"
            )
        tools[name] = typed_function(member, method=isinstance(owner, type))
    if not tools:
        raise ConfigError(f"{module!r} has no public function to offer; list them in `functions`")
    return tools, owner if isinstance(owner, type) else None
