"""Several environments in one run: each has its share, and goes through its own prompts."""

from collections import Counter
from itertools import chain

import pytest

from mentor_pl.training.mixture_order import MixtureOrder, MixtureSchedule, prompts_in_a_round
from mentor_pl.training.prompt_order import EqualRounds, PromptOrder


def mixture(*sizes_and_weights, round_size, seed=0):
    schedule = MixtureSchedule([weight for _, weight in sizes_and_weights], round_size)
    members = {
        f"e{i}": PromptOrder(num_prompts=size, rounds=schedule.windows(i), seed=seed, name=f"e{i}")
        for i, (size, _) in enumerate(sizes_and_weights)
    }
    return MixtureOrder(members, schedule=schedule, round_size=round_size, seed=seed)


def shares(drawn, *bounds):
    return [sum(low <= i < high for i in drawn) for low, high in zip((0, *bounds), (*bounds, 10**9), strict=True)]


def test_shares_of_three_to_one():
    order = mixture((20, 3), (5, 1), round_size=8)
    assert order.num_prompts == 25
    for index in range(20):
        assert shares(order.round(index), 20) == [6, 2]


def test_shares_that_no_round_can_have_exactly_even_out():
    """Of 5 places two environments of one weight have 2 and 3 by turns; of weight 1 to 99 the rare one has one in 100 places."""
    order = mixture((50, 1), (50, 1), round_size=5)
    assert [shares(order.round(index), 50) for index in range(4)] == [[3, 2], [2, 3], [3, 2], [2, 3]]
    rare = mixture((50, 99), (50, 1), round_size=10)
    assert sum(shares(rare.round(index), 50)[1] for index in range(100)) == 10


@pytest.mark.parametrize("round_size", [3, 5, 7, 8])
def test_every_environment_goes_through_its_prompts_pass_by_pass(round_size):
    sizes, weights = (9, 7, 12), (2, 1, 3)
    order = mixture(*zip(sizes, weights, strict=True), round_size=round_size)
    drawn = [order.round(index) for index in range(120)]
    assert all(len(one) == round_size == len(set(one)) for one in drawn)  # nothing twice in a round
    flat, first = list(chain.from_iterable(drawn)), 0
    for size in sizes:
        own = [i - first for i in flat if first <= i < first + size]
        # A round's places are shuffled, so that only whole passes can be told from outside.
        passes = Counter(own)
        assert set(passes) == set(range(size)) and max(passes.values()) - min(passes.values()) <= 1
        first += size


@pytest.mark.parametrize("weights", [(2, 1), (1, 1), (5, 2)])
@pytest.mark.parametrize("round_size", [2, 3, 5, 6])
def test_small_environments_have_nothing_twice_in_a_round_either(weights, round_size):
    """Each has exactly as many prompts as the largest share of a round, or one more."""
    for more in (0, 1):
        sizes = [share + more for share in prompts_in_a_round(weights, round_size)]
        order = mixture(*zip(sizes, weights, strict=True), round_size=round_size)
        assert all(len(set(order.round(index))) == round_size for index in range(60))


def test_a_round_depends_on_its_number_alone():
    order = mixture((9, 2), (7, 1), round_size=5)
    rounds = [order.round(index) for index in range(40)]
    assert mixture((9, 2), (7, 1), round_size=5).round(39) == rounds[39]
    assert [order.round(index) for index in reversed(range(40))] == rounds[::-1]
    assert [mixture((9, 2), (7, 1), round_size=5, seed=1).round(i) for i in range(40)] != rounds


def test_places_of_a_round_are_mixed_so_that_ranks_are():
    """Were they in turns, the first of two ranks would have one environment and the second the other."""
    order = mixture((64, 1), (64, 1), round_size=8)
    of_first_rank = Counter(i < 64 for index in range(16) for i in order.round(index)[::2])
    assert 16 < of_first_rank[True] < 48


def test_one_ingredient_has_whole_rounds_as_a_prompt_order():
    plain = PromptOrder(num_prompts=12, rounds=EqualRounds(8), seed=0, name="e0")
    order = mixture((12, 1), round_size=8)
    assert [order.round(i) for i in range(12)] == [plain.round(i) for i in range(12)]


def test_what_a_round_holds_of_each():
    assert prompts_in_a_round([1.0], 16) == [16]
    assert prompts_in_a_round([3, 1], 8) == [6, 2]
    assert prompts_in_a_round([1, 1], 5) == [3, 3]
    assert prompts_in_a_round([0.1, 0.2], 3) == [1, 2]
