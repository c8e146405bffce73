"""Names that a config or command line may use: those that are installed, the nearest to a misspelt one, short and earlier ones."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from mentor_pl.cli.schema import subclasses
from mentor_pl.plugins import Plugin, find_plugins, group_of, imported_groups

RENAMED = {
    "objective": "loss",
    "ClippedSurrogate": "GRPOLoss",
    "SupervisedLikelihood": "SFTLoss",
    "ShardedStrategy": "FSDP2Strategy",
    "FlatShardedStrategy": "FSDP1Strategy",
    "needs_reference": "needs_ref_policy",
    "door": "group",
    "prompts_per_round": "round.prompts_per_round",
    "group_size": "round.group_size",
    "steps_per_round": "round.steps",
    "epochs_per_round": "round.passes",
    "rounds_ahead": "round.ahead",
    "mask_truncated": "round.mask_truncated",
    "max_problems": "evaluation_sampling.max_problems",
    "evaluation_batch_size": "evaluation_sampling.batch_size",
    "overlong_prompts": "reading.overlong_prompts",
    "imitate_reasoning": "reading.imitate_reasoning",
    "max_bad_lines": "reading.max_bad_lines",
}
"""Keys and classes of earlier versions, and what they are called now."""

SHORT_FOR = {
    "--data.group_size": "--data.round.group_size",
    "--data.prompts_per_round": "--data.round.prompts_per_round",
    "--data.max_problems": "--data.evaluation_sampling.max_problems",
}
"""What is typed most often has a shorter option, on the command line only."""


def written_out(argv: Sequence[str]) -> list[str]:
    """Return the arguments of a training command with the longer options that some are short for."""
    split = (argument.partition("=") for argument in argv)
    return [f"{SHORT_FOR.get(option, option)}{equals}{value}" for option, equals, value in split]


def renamed(name: str) -> str | None:
    """Say what a key or class of an earlier version is called now; None where it was not renamed."""
    new = RENAMED.get(name.rpartition(".")[2])
    return None if new is None else f"{name!r} was renamed; write {new!r}"


def suggestion(name: str, known: Any) -> str:
    """Return the nearest known name as a question; "" where none is near."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def unknown_class(name: str, bases: tuple[type, ...]) -> str:
    """Say that there is no such class, and which there are."""
    if said := renamed(name):
        return said
    broken = next((p for p in _plugins(bases) if p.name == name and p.error), None)
    if broken is not None:
        return f"the plugin {name!r} ({broken.distribution}) failed to load: {broken.error}"
    wanted = " or ".join(base.__name__ for base in bases)
    return f"there is no {wanted} {name!r}{suggestion(name, known(bases))}; {installed(bases)}"


def installed(bases: tuple[type, ...]) -> str:
    """Say which plugins of a class are installed, and from where; else which subclasses there are."""
    by_distribution: dict[str, list[str]] = {}
    for plugin in _plugins(bases):
        if plugin.error is None:
            by_distribution.setdefault(plugin.distribution, []).append(plugin.name)
    if by_distribution:
        rows = (f"{', '.join(names)} ({distribution})" for distribution, names in by_distribution.items())
        return f"installed are {'; '.join(rows)}"
    return f"there are {', '.join(known(bases)) or 'none'}"


def _plugins(bases: tuple[type, ...]) -> list[Plugin]:
    groups = [group for base in bases if (group := group_of(base)) is not None]
    return list(find_plugins(*groups)) if groups else []


def known(bases: tuple[type, ...]) -> list[str]:
    """Return the names of all that may be named where one of the classes is expected."""
    found = (c for base in bases for c in subclasses(base) if not is_abstract(c) and not c.__name__.startswith("_"))
    return sorted({c.__name__ for c in found} | {p.name for p in _plugins(bases)})


def is_abstract(owner: type) -> bool:
    """Say whether a class cannot be made itself."""
    return bool(getattr(owner, "__abstractmethods__", ()))


def with_distribution(owner: Any) -> str:
    """Return the name of a class, with the distribution that it comes from where it is a plugin."""
    found = (p for group in imported_groups() for p in find_plugins(group) if p.loaded is owner)
    return next((f"{owner.__name__} ({p.distribution})" for p in found), owner.__name__)
