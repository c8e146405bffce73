from dataclasses import replace

import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.rewards.overlong import Overlong
from mentor_pl.testing import check_reward_component, trajectory
from mentor_pl.trajectory import Completion


@pytest.mark.parametrize(("tokens", "score"), [(0, 0.0), (80, 0.0), (85, 0.25), (100, 1.0), (130, 1.0)])
def test_it_rises_within_the_margin(tokens: int, score: float) -> None:
    written = trajectory("long")
    turn = replace(written.turns[0], completion=Completion(token_ids=(1,) * tokens, logprobs=(0.0,) * tokens))
    assert Overlong(max_tokens=100, margin=20).score(replace(written, turns=(turn,)), []) == pytest.approx(score)


def test_it_keeps_the_contract() -> None:
    check_reward_component(Overlong(max_tokens=100, margin=20))


def test_a_margin_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="margin 200 must lie between 1 and max_tokens 100"):
        Overlong(max_tokens=100, margin=200)
