"""Self-mentoring: a student's own best verified trajectories become references, above all where the teacher failed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.reference import Reference
from mentor_pl.references.replay import with_expected_state
from mentor_pl.references.selection import Preference, choose, reference_of, rejection_reason
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Trajectory


def references_from_trajectories(
    references: Iterable[Reference],
    trajectories: Iterable[Trajectory],
    *,
    judges: Sequence[RewardComponent],
    keep: int = 1,
    prefer: Preference = "shortest",
    only_unsolved: bool = True,
    teacher: str = "self",
    toolbox: ToolBox | None = None,
) -> Iterator[tuple[Reference, bool]]:
    """Add a student's verified trajectories to the references they were sampled on.

    Args:
        references: All references; held in memory, as is what is kept of the trajectories.
        trajectories: Read once, in any order.
        judges: Each must score 1.0.
        keep: New references for each prompt.
        prefer: Which of several verified trajectories are kept.
        only_unsolved: Only for prompts for which no reference has a call or a solution.
        teacher: Name of the new references' teacher.
        toolbox: Runs a teacher's calls again, where they say what state is expected.

    Yields:
        Each reference with whether it is new. Old ones come in their order, each prompt's new ones
        behind its first; a row that is a prompt without any solution is replaced by its first new
        reference, and keeps its id.

    Raises:
        ConfigError: `keep` is below 1.
        DataFileError: A trajectory names a reference that there is not.
    """
    if keep < 1:
        raise ConfigError(f"keep is {keep}; keep at least 1 reference for each prompt")
    old = {reference.reference_id: reference for reference in references}
    solved = {reference.prompt for reference in old.values() if reference.tool_calls or reference.messages}
    judged = functools.cache(lambda key: old[key] if toolbox is None else with_expected_state(old[key], toolbox))
    kept: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        prompt = old.get(trajectory.reference_id)
        if prompt is None:
            raise DataFileError(
                f"a trajectory names the reference {trajectory.reference_id!r}, which the reference file does not have; "
                "give the file that its prompts came from"
            )
        if only_unsolved and prompt.prompt in solved:
            continue
        if rejection_reason(trajectory, judged(prompt.reference_id), judges):
            continue
        kept[prompt.reference_id] = choose([*kept.get(prompt.reference_id, []), trajectory], keep=keep, prefer=prefer)
    for reference in old.values():
        new = kept.get(reference.reference_id, [])
        empty = not (reference.tool_calls or reference.messages)
        if not (empty and new):
            yield reference, False
        for index, trajectory in enumerate(new):
            own_id = index == 0 and empty
            new_id = reference.reference_id if own_id else f"{reference.reference_id}/{teacher}-{index}"
            yield reference_of(trajectory, reference, reference_id=new_id, teacher=teacher), True
