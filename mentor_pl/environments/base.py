"""The plugin point for environments (entry-point group `mentor_pl.environments`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from mentor_pl.embedded import resolve
from mentor_pl.errors import ConfigError, PluginError
from mentor_pl.evaluation.base import TrajectoryMetric
from mentor_pl.files.references import read_references
from mentor_pl.plugins import keeping_contract
from mentor_pl.reference import Reference
from mentor_pl.rewards.program import RewardProgram
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.user import User
from mentor_pl.tools.base import ToolBackend


class Environment:
    """What a student is taught, or measured by: references, their tools, the reward, and the budgets.

    This one reads a reference file. Another one is a subclass that overrides `read`, and that hands
    what it brings along (tools, a reward) to this constructor; the other arguments it passes on as
    `**settings`. Check it with `mentor_pl.testing.check_environment`.

    Args:
        references: Reference file; `embedded:...` names one of ours.
        tools: Tool backends; `[]` where the references offer none. Unless given, those of the
            environment that this one takes after.
        reward: The reward program. Unless given, as `tools`.
        final_tools: Tools whose call ends the trajectory, and whose arguments are its answer; they
            go along with `tools`.
        limits: Budgets of each trajectory. Unless given, as `tools`.
        user: Speaks with the student once a reference's own follow-ups are said. Unless given, as
            `tools`.
        metrics: Further metrics of an evaluation split. Unless given, as `tools`.
        name: What logs and trajectories call a training environment, where there are several;
            unless given, its file without the extension, or its class. An evaluation split is
            called by its key.
        weight: Of a training environment, where there are several: its share of each round's
            prompts, relative to the others.
        like: Of an evaluation split, where there are several training environments: the name of the
            one from which it takes what it does not name itself.

    Raises:
        ConfigError: A value cannot be one.
    """

    def __init__(
        self,
        references: str | None = None,
        tools: list[ToolBackend] | None = None,
        reward: RewardProgram | None = None,
        final_tools: list[str] | None = None,
        limits: RolloutLimits | None = None,
        user: User | None = None,
        metrics: list[TrajectoryMetric] | None = None,
        name: str | None = None,
        weight: float = 1.0,
        like: str | None = None,
    ) -> None:
        if not 0 < weight < math.inf:
            raise ConfigError(
                f"an environment's weight is {weight}; it must be above 0 and finite; to train without it, leave it out"
            )
        if name is not None and (not name.strip() or "/" in name):
            raise ConfigError(f"an environment's name is {name!r}; it must be a text without '/', for names of metrics")
        if final_tools is not None and tools is None:
            raise ConfigError(
                f"an environment has the final_tools {', '.join(final_tools)} but no tools; name its tools, too"
            )
        self.references = references
        self.tools = tools
        self.reward = reward
        self.final_tools = final_tools
        self.limits = limits
        self.user = user
        self.metrics = metrics
        self.name = name or self._default_name()
        self.has_own_name = name is not None
        self.weight = weight
        self.like = like

    def read(self, *, max_bad_lines: int = 0) -> Sequence[Reference]:
        """Return the references, at least one; the same ones each time.

        Args:
            max_bad_lines: Of a file: lines that may be unusable; each is logged with its number and
                left out.

        Raises:
            DataFileError: They cannot be read.
        """
        return read_references(resolve(self.references or ""), max_bad_lines=max_bad_lines)

    @property
    def source(self) -> str:
        """Where the references come from, for messages."""
        return self.references or type(self).__name__

    @property
    def reads_nothing(self) -> bool:
        """Whether there is neither a file nor a `read` of a subclass's own."""
        return not self.references and type(self).read is Environment.read

    def _default_name(self) -> str:
        plain = type(self) is Environment
        return (named_after(self.references) if plain and self.references else "") or type(self).__name__


def references_of(environment: Environment, *, max_bad_lines: int) -> tuple[Reference, ...]:
    """Return what an environment reads.

    Raises:
        DataFileError: They cannot be read.
        PluginError: It raised something else, or gave something else than references, or none.
    """
    with keeping_contract(environment, ".read"):
        found: tuple[Any, ...] = tuple(environment.read(max_bad_lines=max_bad_lines))
    wrong = next((one for one in found if not isinstance(one, Reference)), None if found else "nothing")
    if wrong is not None:
        raise PluginError(f"{type(environment).__name__}.read gave {wrong!r:.100}; it gives one Reference or more")
    return found


def named_after(file: str) -> str:
    """Return what an environment is called by its reference file: the file's name up to its first full stop."""
    return PurePath(file.rpartition(":")[2].partition("?")[0]).name.partition(".")[0]
