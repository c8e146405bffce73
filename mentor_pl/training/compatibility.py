"""Settings of the data module and of the module that must agree; told before the student is loaded."""

from __future__ import annotations

from mentor_pl.engines.base import SamplingParams
from mentor_pl.errors import ConfigError
from mentor_pl.training.module import MentorModule

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
            f"data.rounds_ahead is {rounds_ahead} but data.train_on is 'references', where nothing is sampled ahead; set it to 0"
        )


def check_exploration(module: MentorModule, *, sampling: SamplingParams, rounds_ahead: int) -> None:
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
    if not rounds_ahead:
        return
    if not module.engine.holds_own_weights:
        raise ConfigError(
            f"data.rounds_ahead is {rounds_ahead} but model.engine is {type(module.engine).__name__}, which samples with the trainer's own "
            "weights and cannot go on while these are trained; use an engine that holds its own, such as VLLMEngine, or set it to 0"
        )
    if module.correction is None:
        raise ConfigError(
            f"data.rounds_ahead is {rounds_ahead}, so that rounds are sampled with older weights than those that are trained; set "
            "model.correction to TruncatedImportanceSampling, which corrects for it"
        )
