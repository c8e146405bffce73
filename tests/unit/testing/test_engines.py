from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from mentor_pl.engines.base import EngineSession, GenerationRequest, RolloutEngine, SamplingParams
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import PluginError
from mentor_pl.testing import check_rollout_engine
from mentor_pl.trajectory import Completion
from tests.unit.engines.models import tiny_model

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8]]


class Spoilt(RolloutEngine):
    """The reference engine, with its completions changed on their way out."""

    def __init__(self, spoil: Callable[[Completion], Completion]) -> None:
        self.engine, self.spoil = HFGenerateEngine(), spoil

    def sync(self, model: nn.Module, version: int) -> None:
        self.engine.sync(model, version)

    @contextmanager
    def session(self, sampling: SamplingParams, stop_token_ids: Sequence[int]) -> Iterator[EngineSession]:
        with self.engine.session(sampling, stop_token_ids) as session:
            yield _SpoiltSession(session, self.spoil)


class _SpoiltSession(EngineSession):
    def __init__(self, session: EngineSession, spoil: Callable[[Completion], Completion]) -> None:
        self.inner, self.spoil = session, spoil

    def submit(self, requests: Sequence[GenerationRequest]) -> None:
        self.inner.submit(requests)

    def poll(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[int, Completion]]:
        return [(row, self.spoil(completion)) for row, completion in self.inner.poll(interrupt)]

    def release(self, row: int) -> None:
        self.inner.release(row)


def test_the_reference_engine_keeps_the_contract() -> None:
    check_rollout_engine(HFGenerateEngine(), tiny_model("llama"), PROMPTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda c: {"policy_version": 0}, "the weights have the version 3"),
        (lambda c: {"logprobs": c.logprobs[1:]}, "each token has one log-probability"),
        (lambda c: {"logprobs": tuple(lp - 0.1 for lp in c.logprobs)}, "lie up to 0.1 from the model's own"),
        (lambda c: {"finish_reason": "stop"}, "its finish_reason must be 'length'"),
        (lambda c: {"token_ids": c.token_ids * 2, "logprobs": c.logprobs * 2}, "tokens were asked for"),
        (
            lambda c: {"token_ids": c.token_ids[:-1], "logprobs": c.logprobs[:-1]} if c.finish_reason == "stop" else {},
            "ends with the first stop token and keeps it",
        ),
    ],
)
def test_a_broken_clause_is_named(changes: Callable[[Completion], dict[str, Any]], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_rollout_engine(Spoilt(lambda c: replace(c, **changes(c))), tiny_model("llama"), PROMPTS)
