import math

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.sampling import as_int64, sample_tokens, uniforms

PROBS = torch.tensor([0.4, 0.3, 0.2, 0.1])


def draw(logits, sampling, numbers):
    return sample_tokens(logits.expand(len(numbers), -1), sampling, torch.tensor(numbers, dtype=torch.float64))


def test_a_uniform_number_picks_the_first_token_beyond_it():
    token_ids, logprobs = draw(PROBS.log(), SamplingParams(), [0.0, 0.39, 0.41, 0.69, 0.71, 0.89, 0.91, 1 - 2**-53])
    assert token_ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert_close(logprobs, PROBS.log()[token_ids])


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (SamplingParams(temperature=0.5), {0: 16 / 30, 1: 9 / 30, 2: 4 / 30, 3: 1 / 30}),  # squares, renormalised
        (SamplingParams(top_k=2), {0: 4 / 7, 1: 3 / 7}),
        (SamplingParams(top_p=0.75), {0: 4 / 9, 1: 3 / 9, 2: 2 / 9}),  # 0.4 + 0.3 < 0.75: the third token is needed
        (SamplingParams(top_p=1e-9), {0: 1.0}),
        (SamplingParams(min_p=0.4), {0: 4 / 9, 1: 3 / 9, 2: 2 / 9}),  # 0.4 * 0.4 = 0.16 lies between 0.1 and 0.2
        (SamplingParams(top_k=3, top_p=0.75), {0: 4 / 7, 1: 3 / 7}),  # of the 0.9 left by top-k, 0.7 is 0.78
        (
            SamplingParams(temperature=0.5, min_p=0.2),
            {0: 16 / 29, 1: 9 / 29, 2: 4 / 29},
        ),  # after the temperature: 1/16 < 0.2
    ],
)
def test_filters_keep_the_right_tokens_and_score_what_is_left(sampling, kept):
    numbers = torch.linspace(0, 1 - 1e-9, 2001, dtype=torch.float64)
    token_ids, logprobs = sample_tokens(PROBS.log().expand(2001, -1), sampling, numbers)
    for token_id, prob in kept.items():
        drawn = token_ids == token_id
        assert abs(drawn.double().mean().item() - prob) < 2e-3
        assert_close(logprobs[drawn], torch.full((int(drawn.sum()),), math.log(prob)))
    assert set(token_ids.tolist()) == set(kept)


def test_ties_at_the_threshold_are_all_kept():
    token_ids, logprobs = draw(torch.zeros(4), SamplingParams(top_k=2), [0.1, 0.3, 0.6, 0.9])
    assert token_ids.tolist() == [0, 1, 2, 3]
    assert_close(logprobs, torch.full((4,), math.log(0.25)))


def test_greedy_takes_the_likeliest_and_scores_it_by_the_model():
    token_ids, logprobs = draw(PROBS.flip(0).log(), SamplingParams(temperature=0, top_k=1), [0.99])
    assert token_ids.tolist() == [3]
    assert_close(logprobs, torch.tensor([0.4]).log())


def chi_square(counts, probs):
    expected = probs * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.7),
        SamplingParams(top_k=50),
        SamplingParams(top_p=0.8),
        SamplingParams(min_p=0.05),
        SamplingParams(temperature=1.3, top_k=200, top_p=0.9, min_p=0.01),
    ],
)
def test_draws_follow_the_exact_distribution(sampling):
    """Chi-square over 300 tokens (two blocks, the second padded), against a distribution filtered here by sorting."""
    torch.manual_seed(0)
    logits = torch.randn(300) * 1.5
    probs = torch.softmax(logits.double() / sampling.temperature, -1)
    order = probs.argsort(descending=True)
    kept = order[: sampling.top_k or 300]
    share = probs[kept] / probs[kept].sum()
    kept = kept[(share.cumsum(0) - share) < sampling.top_p]
    kept = kept[probs[kept] >= sampling.min_p * probs.max()]
    exact = torch.zeros(300, dtype=torch.float64)
    exact[kept] = probs[kept] / probs[kept].sum()

    draws = 100_000
    numbers = uniforms(torch.full((draws,), 7), torch.arange(draws))
    drawn = [sample_tokens(logits.expand(len(u), -1), sampling, u) for u in numbers.split(20_000)]
    token_ids, logprobs = (torch.cat(parts) for parts in zip(*drawn, strict=True))
    assert_close(logprobs, exact[token_ids].log().float(), atol=1e-5, rtol=0)
    counts = torch.bincount(token_ids, minlength=300).double()
    freedom = len(kept) - 1
    assert counts[exact == 0].sum() == 0
    # mean + 4 standard deviations of chi-square
    assert chi_square(counts[kept], exact[kept]) < freedom + 4 * math.sqrt(2 * freedom)


def test_a_large_vocabulary_keeps_its_rare_tokens():
    """49,152 equally likely tokens: each interval of width 1 / V must give its own token, whatever rounding does."""
    vocab_size = 49_152
    numbers = (torch.arange(0, vocab_size, 97).double() + 0.5) / vocab_size
    token_ids, _ = sample_tokens(torch.zeros(len(numbers), vocab_size), SamplingParams(), numbers)
    assert token_ids.tolist() == list(range(0, vocab_size, 97))


def test_a_flat_distribution_needs_more_than_the_first_candidates():
    token_ids, logprobs = sample_tokens(torch.zeros(1, 5000), SamplingParams(top_p=0.9), torch.tensor([0.999]).double())
    assert token_ids.tolist() == [4995]  # all tie, so all are kept
    assert_close(logprobs, torch.tensor([-math.log(5000)]))


def test_splitmix64_agrees_with_its_published_first_output():
    # seed 0 mixes to 0; one golden-gamma step gives 0xE220A8397B1DCDAF, SplitMix64's first output for state 0
    number = uniforms(torch.tensor([0]), torch.tensor([1]))
    assert number.item() == (0xE220A8397B1DCDAF >> 11) * 2.0**-53


def test_random_numbers_depend_on_seed_and_position_alone():
    seeds, positions = torch.tensor([3, -9, 2**62]), torch.tensor([0, 5, 9])
    together = uniforms(seeds, positions)
    alone = [uniforms(seeds[i : i + 1], positions[i : i + 1]).item() for i in range(3)]
    assert together.tolist() == alone
    assert len(set(uniforms(torch.arange(1000), torch.arange(1000).flip(0)).tolist())) == 1000


def test_random_numbers_are_uniform_over_positions_and_over_seeds():
    for numbers in (
        uniforms(torch.full((100_000,), 11), torch.arange(100_000)),
        uniforms(torch.arange(100_000), torch.full((100_000,), 40)),
    ):
        counts = torch.histc(numbers.float(), bins=100, min=0, max=1).double()
        assert chi_square(counts, torch.full((100,), 0.01).double()) < 99 + 4 * math.sqrt(198)


def test_seeds_of_any_size_wrap():
    assert as_int64(2**64 + 5) == 5
    assert as_int64(2**63) == -(2**63)
    assert as_int64(-1) == -1
