"""The parser of every subcommand: what a user did wrong becomes one `MentorError`, wherever it was found."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser

from mentor_pl.cli.constructors import constructor_error, refuse_nulls
from mentor_pl.cli.diagnosis import diagnose, diagnose_values
from mentor_pl.cli.schema import parameters
from mentor_pl.cli.shipped import PARSER_MODE
from mentor_pl.errors import ConfigError, MentorError, UsageError
from mentor_pl.plugins import load_plugins

if TYPE_CHECKING:
    _Parser = ArgumentParser
else:
    _Parser = object

_argv: ContextVar[list[str] | None] = ContextVar("_argv", default=None)
"""The arguments that are being parsed; None outside of parsing."""

_folder: ContextVar[Path | None] = ContextVar("_folder", default=None)
"""The working directory in which parsing began."""

_building: ContextVar[bool] = ContextVar("_building", default=False)
"""Whether objects are being made from a config."""


class _Refused(BaseException):
    """Carries a constructor's error through jsonargparse, which takes an `Exception` for one of several alternatives."""

    def __init__(self, error: MentorError) -> None:
        super().__init__(str(error))
        self.error = error


class OneLineErrors(_Parser):
    """Mixin for an `ArgumentParser`, put before it: raises a `MentorError` of one line where it would print many.

    Attributes:
        schema: The type of each key at the top level; see `diagnose`.
        positional: Names of the arguments that are given without a name, in order.
    """

    schema: Mapping[str, Any] = {}
    positional: Sequence[str] = ()

    def __init__(self, *args: Any, parser_mode: str = PARSER_MODE, **options: Any) -> None:
        super().__init__(*args, parser_mode=parser_mode, **options)
        self._given: list[str] = []
        super().add_instantiator(_Guarded(_construct), object)

    def add_instantiator(
        self, instantiator: Any, class_type: type, subclasses: bool = True, prepend: bool = False
    ) -> None:
        """Add an instantiator before the one for all classes, which would hide it."""
        super().add_instantiator(_Guarded(instantiator), class_type, subclasses=subclasses, prepend=True)

    @staticmethod
    def prepared(argv: Sequence[str]) -> list[str]:
        """Return the arguments as they are parsed; errors speak of them as they were given."""
        return list(argv)

    def parse_args(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Parse; whatever jsonargparse raises is a usage error."""
        if _argv.get() is not None:  # the parser of a nested config
            return super().parse_args(args, *rest, **options)
        self._given = list(sys.argv[1:] if args is None else args)
        token, folder = _argv.set(self._given), _folder.set(Path.cwd())
        try:
            return super().parse_args(self.prepared(self._given), *rest, **options)
        except MentorError:
            raise
        except Exception as failure:  # a value so odd that jsonargparse's own code fails on it
            self.error(str(failure) or type(failure).__name__, failure)
        finally:
            _argv.reset(token)
            _folder.reset(folder)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong in one line; nested parsers leave it to the outermost.

        Raises:
            UsageError: Always, in the outermost parser.
        """
        argv = _argv.get()
        if not self.exit_on_error or argv is None:
            super().error(message, ex)
        with contextlib.chdir(
            _folder.get() or Path.cwd()
        ):  # jsonargparse works in the folder of the config that it reads
            problem = diagnose(message, argv, self.schema, self.positional)
        raise UsageError(problem) from ex

    def instantiate(self, *args: Any, **options: Any) -> Any:
        """Make the objects of a config; an error of a constructor comes out as it is, however deep it was raised."""
        return self._unwrapped(super().instantiate, *args, **options)

    def instantiate_classes(self, *args: Any, **options: Any) -> Any:
        """Do the same under the name by which LightningCLI calls it."""
        return self._unwrapped(super().instantiate_classes, *args, **options)

    def _unwrapped(self, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if _building.get():
            return make(*args, **options)
        token = _building.set(True)
        try:
            return make(*args, **options)
        except _Refused as refused:
            raise refused.error from refused.error.__cause__
        except MentorError:
            raise
        except Exception as failure:  # a value that jsonargparse let pass, and then cannot make an object of
            message = str(failure) or type(failure).__name__
            raise UsageError(diagnose(message, self._given, self.schema, self.positional)) from failure
        finally:
            _building.reset(token)


def _construct(owner: Callable[..., Any], *args: Any, **arguments: Any) -> Any:
    return owner(*args, **arguments)


class _Guarded:
    """An instantiator whose errors are the user's. A class, so that what it made later can be pickled."""

    def __init__(self, instantiator: Callable[..., Any]) -> None:
        self._instantiator = instantiator
        self.__signature__ = inspect.signature(instantiator)  # jsonargparse looks at its parameters

    def __call__(self, owner: Callable[..., Any], *args: Any, **arguments: Any) -> Any:
        nested = _building.get()
        token = _building.set(False)  # what a constructor makes by itself is its own affair
        try:
            refuse_nulls(owner, arguments)
            return self._instantiator(owner, *args, **arguments)
        except MentorError as error:
            refused = error
        except Exception as failure:
            refused = constructor_error(owner, failure, arguments)
        finally:
            _building.reset(token)
        if nested:
            raise _Refused(refused)
        raise refused


def call(
    function: Callable[..., Any],
    argv: Sequence[str],
    *,
    prog: str,
    groups: Sequence[str] = (),
    as_positional: bool = False,
    renamed: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Call a function with the arguments of a command line.

    Args:
        function: Its parameters are the options, its docstring is the help.
        argv: The arguments.
        prog: What the command is called in its help.
        groups: Plugin points whose plugins may be named.
        as_positional: Whether parameters without a default are given without their names.
        renamed: Parameters that have another name on the command line, by their own.
        choices: Values of such parameters.

    Returns:
        What the function returns.

    Raises:
        UsageError: The arguments cannot be parsed.
        MentorError: A constructor or the function raised it.
    """
    parser = parser_of(
        function, prog=prog, groups=groups, as_positional=as_positional, renamed=renamed, choices=choices
    )
    arguments = parser.instantiate(parser.parse_args(list(argv))).as_dict()
    arguments.pop("config", None)
    for name, option in (renamed or {}).items():
        arguments[name] = arguments.pop(option)
    return function(**arguments)


def parser_of(
    function: Callable[..., Any],
    *,
    prog: str,
    groups: Sequence[str] = (),
    as_positional: bool = False,
    renamed: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> CommandParser:
    """Return the parser that `call` uses."""
    for group in groups:
        load_plugins(group)
    renamed, choices = renamed or {}, choices or {}
    parser = CommandParser(prog=prog, description=(inspect.getdoc(function) or "").partition("\n")[0])
    parser.add_argument("--config", action="config", help="a YAML file with these arguments")
    for name, option in renamed.items():
        parser.add_argument(f"--{option}", required=True, choices=tuple(choices[name]), help=f"the {name}")
    parser.add_function_arguments(
        function, as_group=False, as_positional=as_positional, sub_configs=True, skip=set(renamed)
    )
    hints = parameters(function)
    parser.schema = {renamed.get(name, name): hint for name, hint in hints.items()}
    if as_positional:
        signature = inspect.signature(function).parameters
        parser.positional = [name for name, p in signature.items() if p.default is p.empty and name not in renamed]
    return parser


def build(values: Mapping[str, Any], schema: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Make the objects that a part of a config names.

    Args:
        values: The part, by key.
        schema: Type of each key.
        source: What the part is called in an error, for example `runs/last/config.yaml: data`.

    Raises:
        ConfigError: A value does not fit, or a constructor refuses it.
    """
    parser = CommandParser(exit_on_error=False)
    for name, hint in schema.items():
        parser.add_argument(f"--{name}", type=hint, required=name in values)
    try:
        parsed = parser.parse_object(dict(values))
    except Exception as failure:  # whatever jsonargparse raises
        raise ConfigError(f"{source}: {diagnose_values(str(failure), values, schema)}") from failure
    try:
        return parser.instantiate(parsed).as_dict()
    except MentorError as failure:
        raise ConfigError(f"{source}: {failure}") from failure


class CommandParser(OneLineErrors, ArgumentParser):
    """The parser of a subcommand that is one function."""
