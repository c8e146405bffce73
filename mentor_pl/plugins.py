"""The plugin points: entry points through which rewards, tools, students, engines, metrics and others come in, our own included."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Generator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from mentor_pl.errors import MentorError, PluginError

PLUGIN_POINTS: dict[str, str] = {
    "mentor_pl.rewards": "mentor_pl.rewards.base:RewardComponent",
    "mentor_pl.tools": "mentor_pl.tools.base:ToolBackend",
    "mentor_pl.environments": "mentor_pl.environments.base:Environment",
    "mentor_pl.students": "mentor_pl.students.base:StudentLoader",
    "mentor_pl.engines": "mentor_pl.engines.base:RolloutEngine",
    "mentor_pl.losses": "mentor_pl.losses.base:Loss",
    "mentor_pl.advantages": "mentor_pl.advantages.base:AdvantageEstimator",
    "mentor_pl.metrics": "mentor_pl.evaluation.base:TrajectoryMetric",
    "mentor_pl.users": "mentor_pl.rollout.user:User",
    "mentor_pl.chat_formats": "mentor_pl.chat.formats.base:ToolCallFormat",
}
"""Entry-point group to the base class that its plugins extend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One entry point that was found.

    Attributes:
        group: Entry-point group, one of `PLUGIN_POINTS`.
        name: Name of the entry point: what `class_path` says in YAML.
        target: `module:Class` as written in the distribution's metadata.
        distribution: Name and version of the installed distribution.
        loaded: The class; None where it failed to load.
        error: Why it failed to load; None where it did not.
    """

    group: str
    name: str
    target: str
    distribution: str
    loaded: type | None
    error: str | None


def _load(entry: EntryPoint, base: type) -> tuple[type | None, str | None]:
    try:
        loaded = entry.load()
    except Exception as failure:  # whatever a stranger's import raises is reported, not ours to handle
        return None, f"{type(failure).__name__}: {failure}"
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        return None, f"{entry.value} is not a subclass of {base.__module__}.{base.__qualname__}"
    if loaded.__name__ != entry.name:
        return None, f"the entry point is named {entry.name!r} but its class {loaded.__name__!r}; give both one name"
    return loaded, None


@functools.cache
def _find(group: str) -> tuple[Plugin, ...]:
    base = EntryPoint(name="base", value=PLUGIN_POINTS[group], group=group).load()
    found: list[Plugin] = []
    seen: dict[str, str] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: e.name):
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
        loaded, error = _load(entry, base)
        if entry.name in seen:
            loaded, error = None, f"the name is taken by {seen[entry.name]}; rename or uninstall one of the two"
        seen.setdefault(entry.name, distribution)
        found.append(
            Plugin(
                group=group,
                name=entry.name,
                target=entry.value,
                distribution=distribution,
                loaded=loaded,
                error=error,
            )
        )
    return tuple(found)


def find_plugins(*groups: str) -> tuple[Plugin, ...]:
    """Load every entry point of the plugin points named, or of every plugin point; one that fails is reported in its `error`, not raised.

    Args:
        groups: Of `PLUGIN_POINTS`; all where none is named. Students and engines import torch,
            which takes seconds.

    Raises:
        PluginError: A group is unknown.
    """
    for group in groups:
        if group not in PLUGIN_POINTS:
            raise PluginError(f"unknown plugin group {group!r}; the groups are {', '.join(PLUGIN_POINTS)}")
    return tuple(plugin for group in groups or PLUGIN_POINTS for plugin in _find(group))


def group_of(base: type) -> str | None:
    """Return the plugin point whose plugins extend a class; None where there is none. Imports nothing."""
    path = f"{base.__module__}:{base.__qualname__}"
    return next((group for group, target in PLUGIN_POINTS.items() if target == path), None)


def imported_groups() -> tuple[str, ...]:
    """Return the plugin points whose base class is imported: to name a plugin is not worth importing torch."""
    return tuple(group for group, base in PLUGIN_POINTS.items() if base.partition(":")[0] in sys.modules)


def load_plugins(group: str) -> dict[str, type]:
    """Return the classes of one group by name.

    Args:
        group: One of `PLUGIN_POINTS`.

    Raises:
        PluginError: The group is unknown.
    """
    return {p.name: p.loaded for p in find_plugins(group) if p.loaded is not None}


def describe_plugins(group: str) -> str:
    """Say in one line per plugin what is installed for a group and from which distribution, for error messages."""
    rows = [
        f"  {p.name} ({p.distribution})" + ("" if p.error is None else f" - failed to load: {p.error}")
        for p in find_plugins(group)
    ]
    return "\n".join(rows) or "  none"


@contextlib.contextmanager
def keeping_contract(plugin: object, part: str = "", error: type[MentorError] = PluginError) -> Generator[None]:
    """Turn whatever a plugin raises into one error that names it. A `MentorError` comes out as it is.

    Args:
        plugin: Whose code runs, or its name.
        part: Which of its methods, for example ".read".
        error: What is raised.
    """
    try:
        yield
    except MentorError:
        raise
    except Exception as failure:
        name = plugin if isinstance(plugin, str) else type(plugin).__name__
        raise error(
            f"{name}{part} raised {type(failure).__name__}: {failure}; MENTOR_PL_TRACEBACK=1 shows where"
        ) from failure
