"""Checks that data, settings and student go together; most are made before the student is loaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from mentor_pl.engines.base import SamplingParams
from mentor_pl.environments import Split
from mentor_pl.errors import ConfigError
from mentor_pl.guidance import Guidance
from mentor_pl.plugins import keeping_contract
from mentor_pl.training.module import MentorModule
from mentor_pl.training.rounds import StreamPlan

log = logging.getLogger(__name__)

_NO_FILTER = {"top_k": 0, "top_p": 1, "min_p": 0}


def check_imitation(module: MentorModule, *, rounds_ahead: int) -> None:
    """Check that a module can be trained on a teacher's solutions.

    Raises:
        ConfigError: It cannot.
    """
    if not module.loss.imitates:
        raise ConfigError(
            f"data.train_on is 'references' but model.loss is {type(module.loss).__name__}, which weighs the student's "
            "own samples; set it to SFTLoss"
        )
    if module.correction is not None:
        raise ConfigError(
            f"model.correction is {type(module.correction).__name__} but data.train_on is 'references', whose tokens nobody sampled; "
            "leave the correction out"
        )
    if rounds_ahead:
        raise ConfigError(
            f"data.round.ahead is {rounds_ahead} but data.train_on is 'references', where nothing is sampled ahead; set it to 0"
        )


def check_exploration(
    module: MentorModule,
    *,
    sampling: SamplingParams,
    rounds_ahead: int,
    guidance: Guidance = Guidance(),  # noqa: B008 - frozen
) -> None:
    """Check that a module can be trained on what its engine samples in this way.

    Raises:
        ConfigError: It cannot.
    """
    filters = [name for name, off in _NO_FILTER.items() if getattr(sampling, name) != off]
    if filters and module.correction is None:
        raise ConfigError(
            f"data.sampling.{filters[0]} is {getattr(sampling, filters[0])}, so that tokens are sampled from another distribution than "
            "the one that is trained; set model.correction to TruncatedImportanceSampling, which corrects for it, or leave the filter out"
        )
    if guidance.distillation is not None:
        teacher = guidance.distillation.teacher
        with keeping_contract(teacher, ".check"):
            teacher.check(module.tokenizer, sampling.temperature)
    if not rounds_ahead:
        return
    if not module.engine.holds_own_weights:
        raise ConfigError(
            f"data.round.ahead is {rounds_ahead} but model.engine is {type(module.engine).__name__}, which samples with the trainer's own "
            "weights and cannot go on while these are trained; use an engine that holds its own, such as VLLMEngine, or set it to 0"
        )
    if module.correction is None:
        raise ConfigError(
            f"data.round.ahead is {rounds_ahead}, so that rounds are sampled with older weights than those that are trained; set "
            "model.correction to TruncatedImportanceSampling, which corrects for it"
        )


def check_plan(plan: StreamPlan, *, explores: bool) -> None:
    """Check that a round can be divided among its steps, and that a group holds something to compare.

    Args:
        plan: Of the rounds.
        explores: Whether the student's own attempts are trained on.

    Raises:
        ConfigError: It cannot, or does not.
    """
    for name in ("prompts_per_round", "group_size", "steps", "passes"):
        if (value := getattr(plan, name)) < 1:
            raise ConfigError(f"data.round.{name} is {value}; it must be at least 1")
    if plan.steps > plan.prompts_per_round:
        raise ConfigError(f"data.round.steps is {plan.steps} but a round has only {plan.prompts_per_round} prompts")
    if explores and plan.group_size < 2:
        raise ConfigError(
            f"data.round.group_size is {plan.group_size}; trajectories are compared within a group, so at least 2"
        )


def check_rewards(splits: Sequence[Split], guidance: Guidance) -> None:
    """Check that every training environment has a reward that tells what guidance asks for.

    Raises:
        ConfigError: One has none, or guidance cannot work with it.
    """
    for split in splits:
        if split.reward is None:
            whose = f", and the environment {split.name!r} has none of its own" if split.marked else ""
            raise ConfigError(
                f"data.reward is missing{whose}; rollouts need one, for example `reward: rewards/mentor.yaml`"
            )
        guidance.check(split.reward)


def find_overlong(lengths: Mapping[str, int], *, what: str, max_context: int, skip: bool) -> set[str]:
    """Return the ids of what does not fit into the student's context.

    Args:
        lengths: In tokens, by reference id.
        what: What these are, for messages.
        max_context: Tokens that the student can take.
        skip: Whether they may be left out, with a warning.

    Raises:
        ConfigError: They may not, or nothing would be left.
    """
    overlong = {i for i, length in lengths.items() if length > max_context}
    if overlong:
        worst = max(overlong, key=lengths.__getitem__)
        message = (
            f"{len(overlong)} of {len(lengths)} {what} do not fit into the student's context of {max_context} tokens, for example "
            f"{worst!r} with {lengths[worst]}"
        )
        if not skip or len(overlong) == len(lengths):
            raise ConfigError(
                f"{message}; shorten them, offer fewer tools, or set data.reading.overlong_prompts to 'skip'"
            )
        log.warning("%s; they are left out", message)
    return overlong
