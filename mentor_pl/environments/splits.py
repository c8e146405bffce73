"""Environments with all that they need: what one does not name itself, it takes from another."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mentor_pl.environments.base import Environment, references_of
from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.base import TrajectoryMetric
from mentor_pl.files.references import reference_to_row
from mentor_pl.reference import Reference, group_by_prompt
from mentor_pl.references.replay import with_expected_state
from mentor_pl.rewards.program import RewardProgram
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.runner import Prompt
from mentor_pl.rollout.world import World
from mentor_pl.tools.toolbox import ToolBox


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: what was read is kept in the __dict__
class Split:
    """A training environment or evaluation split, complete.

    Attributes:
        name: How logs call it.
        environment: What it was made from.
        world: What a student acts in there.
        reward: What it is scored by; None where only answers are judged.
        metrics: What else it is measured by.
        max_bad_lines: Broken lines of a reference file that are left out before it becomes an
            error.
        marked: Whether its references, and so the trajectories, carry its name.
    """

    name: str
    environment: Environment
    world: World
    reward: RewardProgram | None
    metrics: Sequence[TrajectoryMetric] = ()
    max_bad_lines: int = 0
    marked: bool = False

    @functools.cached_property
    def references(self) -> tuple[Reference, ...]:
        """All references; read once.

        Raises:
            DataFileError: They cannot be read.
            PluginError: The environment broke its contract.
        """
        return references_of(self.environment, max_bad_lines=self.max_bad_lines)

    def prompts(self) -> list[Prompt]:
        """Return the prompts, each with all of its references, whose tools are looked for.

        Raises:
            ConfigError: There is no backend for a tool that a reference offers.
            DataFileError: The references cannot be read.
        """
        toolbox = self.world.toolbox
        check_tools(self.references, source=self.environment.source, toolbox=toolbox)
        marked = (replace(r, environment=self.name) for r in self.references) if self.marked else self.references
        read = (with_expected_state(reference, toolbox) for reference in marked)
        return group_by_prompt(read, fields=self.world.reads_fields)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all references: equal where the same prompts have the same places."""
        out = hashlib.sha256()
        for reference in self.references:
            out.update(json.dumps(reference_to_row(reference), sort_keys=True, default=str).encode() + b"\n")
        return out.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """All environments of a run.

    Attributes:
        train: What is trained on; none where a run only evaluates.
        evaluation: What is evaluated, in order.
    """

    train: tuple[Split, ...]
    evaluation: tuple[Split, ...]

    def rewards(self) -> RewardProgram | dict[str, RewardProgram]:
        """Return the reward program that training has; of several environments by their names."""
        named = {split.name: split.reward for split in self.train if split.reward is not None}
        return named if len(self.train) > 1 else next(iter(named.values()))

    def identity(self) -> dict[str, str | float]:
        """Return what decides which prompts there are to train on: the references, by their hash, and the weights."""
        if len(self.train) == 1:
            return {"references (SHA-256)": self.train[0].digest}
        digests = {f"train.{split.name} (SHA-256)": split.digest for split in self.train}
        return digests | {f"train.{split.name}.weight": split.environment.weight for split in self.train}

    def close(self) -> None:
        """End the tools' workers."""
        for toolbox in {
            id(split.world.toolbox): split.world.toolbox for split in self.train + self.evaluation
        }.values():
            toolbox.close()


def training_environments(short: Environment, train: list[Environment] | None) -> list[Environment]:
    """Return the training environments: several, the one that the short form names, or none.

    Args:
        short: The environment of the short form: `data.references` and what else stands beside it.
        train: `data.train`.

    Raises:
        ConfigError: Both are given, or an empty list.
    """
    if short.references is not None and train is not None:
        raise ConfigError(
            "data.references and data.train are both given, and each says what to train on; data.references is short for "
            "one environment: leave it out, or move it into data.train"
        )
    if train is not None and not train:
        raise ConfigError("data.train is empty; give it an environment, for example {references: train.jsonl}")
    return train or ([] if short.references is None else [short])


def resolve_splits(
    train: Sequence[Environment],
    evaluation: Mapping[Any, str | Environment] | None,
    defaults: Environment,
    *,
    max_bad_lines: int = 0,
) -> Splits:
    """Give every environment what it does not name itself.

    A training environment takes it from the defaults. An evaluation split takes it from the
    training environment that it is `like`, or from the only one; where there are several and it is
    like none, from the defaults.

    Args:
        train: The training environments.
        evaluation: Environments, or reference files, by name, as YAML gave them: `no` and `2024`
            are keys too, and no text.
        defaults: What the others have that name none of their own.
        max_bad_lines: Broken lines of a reference file that are left out before it becomes an
            error.

    Raises:
        ConfigError: Something is missing or has two meanings.
    """
    completion = _Completion(defaults, max_bad_lines)
    trained: dict[str, Split] = {}
    for place, environment in enumerate(train):
        where = "data.references" if len(train) == 1 else f"data.train[{place}]"
        _check_reads(environment, where)
        if environment.like is not None:
            raise ConfigError(f"{where}: `like` is {environment.like!r}, which only evaluation splits may say")
        marked = len(train) > 1
        name = environment.name if marked or environment.has_own_name else "train"
        if name in trained:
            raise ConfigError(f"data.train has two environments called {name!r}; give each a `name` of its own")
        trained[name] = completion.split(environment, name, marked=marked)
    evaluated: list[Split] = []
    for name, given in (evaluation or {}).items():
        environment = _evaluated(name, given)
        evaluated.append(completion.split(environment, name, _models(environment, name, trained)))
    return Splits(train=tuple(trained.values()), evaluation=tuple(evaluated))


def _evaluated(name: Any, given: str | Environment) -> Environment:
    if not isinstance(name, str):
        raise ConfigError(f"data.evaluation has the split {name!r}, which YAML reads as no text; quote its name")
    if name == "train":
        raise ConfigError("data.evaluation has a split named 'train', which is what training is called; rename it")
    environment = Environment(given) if isinstance(given, str) else given
    _check_reads(environment, f"data.evaluation.{name}")
    if environment.has_own_name or environment.weight != 1:
        key = "name" if environment.has_own_name else "weight"
        raise ConfigError(f"data.evaluation.{name}: `{key}` is for training environments; leave it out")
    return environment


def _check_reads(environment: Environment, where: str) -> None:
    if environment.reads_nothing:
        raise ConfigError(f"{where} names no references; name a reference file, or another class of environment")


def _models(environment: Environment, name: str, trained: Mapping[str, Split]) -> tuple[Split, ...]:
    """Return the training environments that an evaluation split may take after."""
    if environment.like is None:
        return tuple(trained.values())
    if environment.like not in trained:
        raise ConfigError(
            f"data.evaluation.{name}: `like` is {environment.like!r}, which is no training environment; there are "
            f"{', '.join(trained) or 'none'}"
        )
    return (trained[environment.like],)


class _Completion:
    """Gives environments what they do not name themselves: taken from the one model there is, else from the defaults.

    Backends that several share are set up once.
    """

    def __init__(self, defaults: Environment, max_bad_lines: int) -> None:
        self._defaults = defaults
        self._max_bad_lines = max_bad_lines
        self._toolboxes: dict[int, ToolBox] = {}

    def split(
        self, environment: Environment, name: str, models: Sequence[Split] = (), *, marked: bool = False
    ) -> Split:
        model = models[0] if len(models) == 1 else None
        reward = environment.reward or (self._defaults.reward if model is None else model.reward)
        if reward is None and any(other.reward for other in models):
            raise _ambiguous(name, "reward", models)
        limits = self._defaults.limits or RolloutLimits() if model is None else model.world.limits
        user = self._defaults.user if model is None else model.world.user
        metrics = self._defaults.metrics if model is None else model.metrics
        return Split(
            name=name,
            environment=environment,
            world=World(
                toolbox=self._toolbox(environment, name, models),
                limits=environment.limits or limits,
                user=environment.user or user,
            ),
            reward=reward,
            metrics=tuple((metrics if environment.metrics is None else environment.metrics) or ()),
            max_bad_lines=self._max_bad_lines,
            marked=marked,
        )

    def _toolbox(self, environment: Environment, name: str, models: Sequence[Split]) -> ToolBox:
        if environment.tools is None and len(models) == 1:
            return models[0].world.toolbox
        owner = self._defaults if environment.tools is None else environment
        if owner.tools is None:
            if models:
                raise _ambiguous(name, "tools", models)
            raise ConfigError(
                f"{environment.source} has no tools, and data.tools is missing; name the backends that run them, or `[]` "
                "where the references offer none"
            )
        if id(owner.tools) not in self._toolboxes:
            self._toolboxes[id(owner.tools)] = ToolBox(owner.tools, final_tools=owner.final_tools or ())
        return self._toolboxes[id(owner.tools)]


def _ambiguous(name: str, key: str, models: Sequence[Split]) -> ConfigError:
    names = ", ".join(model.name for model in models)
    return ConfigError(
        f"data.evaluation.{name} has no {key}, and there are several training environments to take it from: {names}; "
        f"say `like: {models[0].name}`, give it a {key}, or set data.{key} for all"
    )


def check_tools(references: Iterable[Reference], *, source: str, toolbox: ToolBox) -> None:
    """Check that there is a backend for every tool that a reference offers, and every final tool.

    Raises:
        ConfigError: There is none.
    """
    if wrong := toolbox.impossible_final_tools:
        has = ", ".join(sorted(spec.name for spec in toolbox.specs)) or "none"
        raise ConfigError(
            f"{source}: final_tools names {wrong[0]!r}, which none of its tool backends has; they have {has}; mend the name"
        )
    for reference in references:
        if missing := toolbox.missing(reference):
            offered = ", ".join(sorted(spec.name for spec in toolbox.specs)) or "none that is the same for all prompts"
            raise ConfigError(
                f"{source}: reference {reference.reference_id!r} offers the tool {missing[0]!r}, which none of its tool "
                f"backends has; they have {offered}; add the backend that has it to `tools`, or leave these references out"
            )
