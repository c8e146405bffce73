"""`mentor-pl plugins`: what came through the plugin points. And what a parser says where a plugin's name or argument is misspelt."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser, auto_cli
from rich.console import Console
from rich.table import Table

from mentor_pl.errors import MentorError
from mentor_pl.plugins import PLUGIN_POINTS, Plugin, describe_plugins, find_plugins

if TYPE_CHECKING:
    _Parser = ArgumentParser
else:
    _Parser = object

_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)|given class_path '([^']+)':\s+No module named")
_UNKNOWN_OPTION = re.compile(r"given class_path '([^']+)':\s+Option '([^']+)' is not accepted")


def plugins(group: str | None = None) -> int:
    """List the plugins that are installed: name, class, distribution, and why one failed to load.

    Args:
        group: Entry-point group to list alone, for example mentor_pl.rewards; every plugin point without it.

    Returns:
        The number of plugins that failed to load.

    Raises:
        PluginError: There is no such group.
    """
    found = find_plugins(*[group] if group else [])
    table = Table(title="Plugins by group", title_justify="left")
    for heading in ("group", "name", "class", "distribution"):
        table.add_column(heading, overflow="fold")
    for plugin in found:
        name = f"[red]{plugin.name}[/red]" if plugin.error else plugin.name
        table.add_row(plugin.group, name, plugin.target, plugin.distribution)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:  # a pipe is not 80 columns wide
        console = Console(width=160)
    console.print(table)
    failed = [plugin for plugin in found if plugin.error]
    for plugin in failed:
        console.print(
            f"failed to load: {plugin.name} ({plugin.distribution}): {plugin.error}", style="red", markup=False
        )
    return len(failed)


def main(argv: list[str]) -> None:
    """Run `mentor-pl plugins`; exit code 1 where a plugin failed to load, so that a script or CI notices."""
    try:
        failed = auto_cli(plugins, args=argv, as_positional=False, prog="mentor-pl plugins")
    except MentorError as problem:
        raise SystemExit(f"mentor-pl plugins: {problem}") from problem
    if failed:
        raise SystemExit(1)


class PluginErrors(_Parser):
    """Mixin for an `ArgumentParser`, put before it: its errors name the plugins or arguments that there are.

    Attributes:
        plugin_groups: Entry-point groups whose plugins it names; all where empty.
    """

    plugin_groups: tuple[str, ...] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Add what is known to jsonargparse's message."""
        hint = plugin_hint(message, *self.plugin_groups)
        known = hint.partition("\n")[0] in message  # from the parser of a nested config, which is of this class too
        super().error(message if known else f"{message}\n{hint}", ex)


def plugin_hint(message: str, *groups: str) -> str:
    """Say what jsonargparse's message leaves out: which plugins are installed, and which arguments a class takes.

    Args:
        message: The parser's error message.
        groups: Entry-point groups to look in; all where none is named.

    Returns:
        Lines that follow the message; "" where it is about something else.
    """
    if option := _UNKNOWN_OPTION.search(message):
        return _known_arguments(*option.groups())
    if unknown := _UNKNOWN_CLASS.search(message):
        return _known_plugins(unknown[1] or unknown[2], groups or tuple(PLUGIN_POINTS))
    return ""


def _known_plugins(name: str, groups: tuple[str, ...]) -> str:
    found = find_plugins(*groups)
    lines = [f"No plugin is named {name!r}{_suggest(name, [p.name for p in found])}; installed are"]
    if broken := [p for p in found if p.name == name]:
        lines = [f"The plugin {name!r} ({broken[0].distribution}) failed to load: {broken[0].error}; installed are"]
    lines += [f"{group}:\n{describe_plugins(group)}" for group in groups]
    return "\n".join(lines)


def _known_arguments(path: str, option: str) -> str:
    module, _, name = path.rpartition(".")
    owner: Any = getattr(sys.modules.get(module), name, None)
    if owner is None:
        return ""
    known = ArgumentParser().add_class_arguments(owner)  # also sees what a constructor passes on as **kwargs
    origin = next((f" ({p.distribution})" for p in _of_loaded_doors() if p.loaded is owner), "")
    return f"{name}{origin} takes {', '.join(known) or 'no arguments'}{_suggest(option, known)}"


def _of_loaded_doors() -> list[Plugin]:
    """Plugins of the plugin points whose base class is imported: naming a distribution is not worth importing torch."""
    return [
        p for group, base in PLUGIN_POINTS.items() if base.partition(":")[0] in sys.modules for p in find_plugins(group)
    ]


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
