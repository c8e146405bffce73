"""An optimiser and a scheduler tried out on one number, before the student is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mentor_pl.errors import ConfigError, MentorError


def check_optimizer(make_optimizer: Callable[..., Any], make_lr_scheduler: Callable[..., Any] | None) -> None:
    """Take one step with each, as training will.

    Args:
        make_optimizer: Gives the optimiser of a list of parameters.
        make_lr_scheduler: Gives the scheduler of an optimiser; None for none.

    Raises:
        ConfigError: One of them refuses its settings, or fails.
    """
    weight = nn.Parameter(torch.zeros(2, 2))  # a matrix: there are optimisers of matrices only
    weight.grad = torch.ones_like(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said again when training begins
        optimizer = _tried("model.optimizer", make_optimizer, [weight])
        _tried("model.optimizer", optimizer.step)
        if make_lr_scheduler is None:
            return
        scheduler = _tried("model.lr_scheduler", make_lr_scheduler, optimizer)
        measured = (0.0,) if isinstance(scheduler, ReduceLROnPlateau) else ()
        _tried("model.lr_scheduler", scheduler.step, *measured)


def _tried(key: str, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except MentorError as problem:
        raise ConfigError(f"{key}: {problem}") from problem
    except Exception as problem:  # whatever a class of another's raises of its settings
        kind = "" if isinstance(problem, ValueError) else f"{type(problem).__name__}: "
        raise ConfigError(f"{key} cannot be used: {kind}{problem}; mend its arguments") from problem
