"""What the `data` part of a run's config.yaml says of its environments, for cards and reports; nothing is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mentor_pl.environments.base import named_after

_Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSettings:
    """A training environment, or an evaluation split, as a config names it.

    Attributes:
        name: How logs call it.
        source: Its reference file, or its class.
        weight: Its share of each round, relative to the others.
        terms: Weight of each term of its reward, by name.
        tools: Classes of its tool backends, without their arguments, which may hold addresses and
            keys.
    """

    name: str
    source: str
    weight: float
    terms: Mapping[str, float]
    tools: tuple[str, ...]


def training_settings(data: _Settings) -> list[EnvironmentSettings]:
    """Return the training environments of a config's `data`."""
    given: list[Any] = data.get("train") or ([data.get("references")] if data.get("references") else [])
    return [environment_settings(one, data) for one in given]


def evaluation_settings(data: _Settings) -> dict[str, EnvironmentSettings]:
    """Return the evaluation splits of a config's `data`, by name."""
    given = cast(Mapping[str, Any], data.get("evaluation") or {})
    return {str(name): environment_settings(one, data) for name, one in given.items()}


def environment_settings(given: Any, data: _Settings) -> EnvironmentSettings:
    """Read one environment.

    Args:
        given: A reference file, the arguments of an `Environment`, or a class with its arguments.
        data: The defaults.
    """
    class_name = (
        str(given["class_path"]).rpartition(".")[2] if isinstance(given, Mapping) and "class_path" in given else ""
    )
    arguments: _Settings = given if isinstance(given, Mapping) else {"references": given}
    arguments = arguments.get("init_args", {}) if class_name else arguments
    plain = class_name in ("", "Environment")
    source = str(arguments.get("references") or class_name)
    reward = arguments.get("reward") or (data.get("reward") if plain else None)
    tools = arguments.get("tools") or (data.get("tools") if plain else None) or ()
    return EnvironmentSettings(
        name=str(arguments.get("name") or (named_after(source) if plain else "") or class_name),
        source=source,
        weight=float(arguments.get("weight", 1.0)),
        terms={term["name"]: float(term["weight"]) for term in reward["terms"]} if isinstance(reward, Mapping) else {},
        tools=tuple(_class_name(tool) for tool in tools),
    )


def _class_name(setting: Any) -> str:
    return str(setting.get("class_path", "") if isinstance(setting, Mapping) else setting).rpartition(".")[2]
