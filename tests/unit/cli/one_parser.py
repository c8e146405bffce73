"""The parser of `mentor-pl fit` made once for many commands: that takes longer than to use it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from mentor_pl.cli.training import MentorCLI
from mentor_pl.plugins import find_plugins

_MADE = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")


@contextlib.contextmanager
def one_parser() -> Iterator[None]:
    """Let every MentorCLI have the parser of the first one with as many subcommands."""
    made: dict[bool, dict[str, Any]] = {}
    setup_parser = MentorCLI.setup_parser

    def once(cli: MentorCLI, add_subcommands: bool, *arguments: Any) -> None:
        if add_subcommands not in made:
            setup_parser(cli, add_subcommands, *arguments)
            made[add_subcommands] = {name: vars(cli)[name] for name in _MADE if name in vars(cli)}
        vars(cli).update(made[add_subcommands])

    find_plugins()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MentorCLI, "setup_parser", once)
        yield
