import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.sampling import sample_tokens, uniforms
from mentor_pl.errors import ConfigError, EngineError
from mentor_pl.losses.correction import TruncatedImportanceSampling


def corrected(trainer, sampler, **settings):
    """Weights and mean values of tokens with these probabilities."""
    given = TruncatedImportanceSampling(**settings)(tensor(trainer).log(), tensor(sampler).log())
    return given.weights, {name: float(value) / len(trainer) for name, value in given.means.items()}


def test_the_weight_is_the_ratio_up_to_the_cap():
    weights, means = corrected([0.5, 0.2, 0.9], [0.5, 0.4, 0.3])
    assert_close(weights, tensor([1.0, 0.5, 2.0]))  # the last one's ratio is 3
    # r - 1 - log r
    kl = (0 + (0.5 - 1 + math.log(2)) + (3 - 1 - math.log(3))) / 3
    assert means == pytest.approx(
        {
            "correction/kl": kl,
            "correction/weight": 3.5 / 3,
            "correction/squared_weight": 5.25 / 3,
            "correction/capped": 1 / 3,
        }
    )
    # (1 + 1/2 + 2)^2 / (3 (1 + 1/4 + 4))
    assert TruncatedImportanceSampling().effective_sample_size(means) == pytest.approx(12.25 / 15.75)


def test_the_cap_may_be_another():
    assert_close(corrected([0.9, 0.9], [0.3, 0.1], cap=5.0)[0], tensor([3.0, 5.0]))


def test_equal_policies_leave_everything_as_it_is():
    weights, means = corrected([0.5, 0.01], [0.5, 0.01])
    assert weights.tolist() == [1.0, 1.0]
    assert (means["correction/kl"], means["correction/capped"]) == (0.0, 0.0)
    assert TruncatedImportanceSampling().effective_sample_size(means) == 1.0


def test_a_filtered_token_weighs_the_mass_that_the_filter_kept():
    probs = tensor([0.5, 0.3, 0.15, 0.05])
    rows = 4000
    tokens, logprobs = sample_tokens(
        probs.log().expand(rows, -1), SamplingParams(top_k=2), uniforms(torch.arange(rows), torch.zeros(rows).long())
    )
    given = TruncatedImportanceSampling()(probs.log()[tokens], logprobs)
    assert set(tokens.tolist()) == {0, 1}
    assert_close(given.weights, torch.full((rows,), 0.8))


def test_weights_make_a_mean_over_the_samplers_tokens_one_over_the_trainers():
    trainer, sampler = tensor([0.5, 0.3, 0.2]), tensor([0.3, 0.3, 0.4])
    value = tensor([1.0, -2.0, 5.0])
    weights = TruncatedImportanceSampling()(trainer.log(), sampler.log()).weights
    assert_close((sampler * weights * value).sum(), (trainer * value).sum())


def test_too_small_an_effective_sample_is_refused():
    _, means = corrected([0.4, 0.001, 0.001, 0.001], [0.4, 0.9, 0.9, 0.9])  # one token in four counts
    message = r"effective sample size of this step is 0\.25\d* of its tokens, under the limit of 0\.5 .*min_effective.*KL 4\.\d+"
    with pytest.raises(EngineError, match=message):
        TruncatedImportanceSampling().effective_sample_size(means)
    assert TruncatedImportanceSampling(min_effective_sample_size=0.2).effective_sample_size(means) > 0.25


def test_a_step_without_tokens_is_not_refused():
    empty = TruncatedImportanceSampling()(torch.zeros(0), torch.zeros(0))
    means = {name: float(value) for name, value in empty.means.items()}
    assert TruncatedImportanceSampling().effective_sample_size(means) == 1.0


def test_wild_disagreement_stays_finite():
    given = TruncatedImportanceSampling()(tensor([-1e4, 0.0]), tensor([0.0, -1e4]))
    assert torch.isfinite(torch.stack([given.weights.sum(), *given.means.values()])).all()


@pytest.mark.parametrize("settings", [{"cap": 0.9}, {"min_effective_sample_size": 1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} {next(iter(settings.values()))}"):
        TruncatedImportanceSampling(**settings)
