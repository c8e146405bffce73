"""The contract of environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mentor_pl.files.references import reference_from_row, reference_to_row
from mentor_pl.reference import Reference
from mentor_pl.testing.contract import require

if TYPE_CHECKING:
    from mentor_pl.environments import Environment, Split


def check_environment(environment: Environment, *, teacher_succeeds: bool = True) -> list[Reference]:
    """Check that an environment keeps its plugin point's contract; closes its tools.

    It must bring tools and a reward, and give the same references each time, at least one, with an
    id each. Every tool that they offer needs a backend. References must survive being written to a
    file. Where they hold a teacher's solution, the reward's success term must pay it 1: what the
    teacher shows is what is asked for.

    Args:
        environment: The environment; make it small.
        teacher_succeeds: Whether the last is demanded.

    Returns:
        The references.

    Raises:
        PluginError: It does not.
        ConfigError: A tool has no backend.
    """
    from mentor_pl.environments import Environment, resolve_splits  # imports torch

    require(environment.tools is not None, environment, "it has no tools", "its constructor hands over `tools`, or []")
    require(environment.reward is not None, environment, "it has no reward", "its constructor hands over a `reward`")
    references = list(environment.read())
    require(len(references) > 0, environment, "read() gives no references", "an environment has at least one")
    again = list(environment.read())
    require(again == references, environment, "read() gives others the second time", "a resumed run compares them")
    ids = [reference.reference_id for reference in references]
    require(len(set(ids)) == len(ids), environment, "ids occur twice", "each reference needs an id of its own")
    for reference in references:
        kept = reference_from_row(reference_to_row(reference), "check_environment")
        require(
            reference_to_row(kept) == reference_to_row(reference),
            environment,
            f"reference {reference.reference_id!r} reads back differently from a file",
            "references must be made of JSON",
        )
    splits = resolve_splits([environment], None, Environment())
    try:
        _check_split(splits.train[0], environment, teacher_succeeds)
    finally:
        splits.close()
    return references


def _check_split(split: Split, environment: Environment, teacher_succeeds: bool) -> None:
    from mentor_pl.evaluation.teacher import teacher_groups

    prompts = split.prompts()
    assert split.reward is not None  # required above
    term = split.reward.success_term
    groups = teacher_groups(prompts, split.world.toolbox)
    for group in groups:
        scored = split.reward.score_group(group)
        paid: Sequence[float] = () if term is None else scored.scores[term]
        require(
            not teacher_succeeds or all(score == 1.0 for score in paid),
            environment,
            f"the teacher's solution of {group.references[0].reference_id!r} scores {paid} in {term!r}",
            "the success term pays what the teacher shows; mend one of them, or say teacher_succeeds=False",
        )
