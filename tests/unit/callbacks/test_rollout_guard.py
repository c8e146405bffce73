from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from mentor_pl.callbacks.rollout_guard import RolloutGuard
from mentor_pl.errors import ConfigError, MentorError


def look(guard: RolloutGuard, *steps: dict[str, float]) -> None:
    for step, metrics in enumerate(steps, start=1):
        trainer: Any = SimpleNamespace(
            global_step=step, callback_metrics={f"train/{name}": value for name, value in metrics.items()}
        )
        for _ in range(2):  # two micro-batches of one step
            guard.on_train_batch_end(trainer, None, None, None, 0)  # type: ignore[arg-type]


def test_a_warning_comes_once_and_again_after_all_was_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        look(RolloutGuard(), *({"stop/infrastructure": share} for share in (0.1, 0.44, 0.5, 0.0, 0.2)))
    assert [record.getMessage().partition(";")[0][:79] for record in caplog.records] == [
        "step 2: the share of trajectories lost to infrastructure is 0.44, above 0.1: th",
        "step 5: the share of trajectories lost to infrastructure is 0.2, above 0.1: the",
    ]


def test_a_round_that_was_lost_ends_the_run() -> None:
    with pytest.raises(MentorError, match=r"step 1: .* is 0.91; .*raise rollouts.max_infrastructure \(now 0.9"):
        look(RolloutGuard(), {"stop/infrastructure": 0.91})
    look(RolloutGuard(max_infrastructure=None, warn_infrastructure=None), {"stop/infrastructure": 1.0})


def test_wrong_tokens_are_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        look(RolloutGuard(), {"logprob_difference": 1.9}, {"logprob_difference": 2.1})
    assert len(caplog.records) == 1 and "step 2: " in caplog.text and "2.1 nats, above 2" in caplog.text
    with pytest.raises(MentorError, match=r"token is 21 nats; .*rollouts.max_logprob_difference \(now 15; null"):
        look(RolloutGuard(), {"logprob_difference": 21.0})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warn_infrastructure": -0.1}, "warn_infrastructure is -0.1; it must be above 0 and at most 1, or null"),
        ({"max_infrastructure": 90.0}, "max_infrastructure is 90.0; it must be above 0 and at most 1, or null"),
        ({"max_logprob_difference": float("nan")}, "max_logprob_difference is nan; it must be above 0, or null"),
    ],
)
def test_limits_that_cannot_be(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RolloutGuard(**settings)
