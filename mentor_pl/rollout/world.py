"""What a student acts in."""

from __future__ import annotations

from dataclasses import dataclass, field

from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.user import User
from mentor_pl.tools.toolbox import ToolBox


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The part of an environment that a rollout needs: what answers the student, and when it must stop.

    Attributes:
        toolbox: Runs its calls.
        limits: Budgets of each trajectory.
        user: Speaks once a reference's own follow-ups are said; nobody where None.
    """

    toolbox: ToolBox
    limits: RolloutLimits = field(default_factory=RolloutLimits)
    user: User | None = None

    @property
    def reads_fields(self) -> tuple[str, ...]:
        """Names of a reference's further `fields` that decide what happens: prompts of one wording that differ there are several."""
        return (*self.toolbox.reads_fields, *(() if self.user is None else self.user.reads_fields))
