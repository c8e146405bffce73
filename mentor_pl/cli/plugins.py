"""`mentor-pl plugins`: what came through the plugin points."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table

from mentor_pl.cli.parser import call
from mentor_pl.plugins import find_plugins


def plugins(group: str | None = None) -> int:
    """List the plugins that are installed: name, class, distribution, and why one failed to load.

    Args:
        group: Entry-point group to list alone, for example mentor_pl.rewards; every plugin point
            without it.

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
    if call(plugins, argv, prog="mentor-pl plugins"):
        raise SystemExit(1)
