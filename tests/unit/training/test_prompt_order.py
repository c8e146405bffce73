from collections import Counter

import pytest

from mentor_pl.training.prompt_order import EqualRounds, PromptOrder


def order(num_prompts, round_size, seed=0):
    return PromptOrder(num_prompts=num_prompts, rounds=EqualRounds(round_size), seed=seed)


@pytest.mark.parametrize(("num_prompts", "round_size"), [(5, 2), (5, 3), (5, 4), (5, 5), (12, 8), (20, 16), (31, 7)])
def test_no_round_holds_a_prompt_twice_and_every_pass_holds_each_once(num_prompts, round_size):
    prompts = order(num_prompts, round_size)
    rounds = [prompts.round(i) for i in range(3 * num_prompts)]
    assert all(len(set(drawn)) == len(drawn) == round_size for drawn in rounds)
    drawn = [i for one in rounds for i in one]
    passes = [drawn[start : start + num_prompts] for start in range(0, len(drawn), num_prompts)]
    assert len(passes) == 3 * round_size
    assert all(sorted(one) == list(range(num_prompts)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_a_round_depends_on_its_number_and_not_on_those_that_were_drawn():
    """A resumed run draws what the whole one would have."""
    prompts = order(12, 8)
    rounds = [prompts.round(i) for i in range(40)]
    assert [order(12, 8).round(i) for i in range(40)] == rounds
    assert [prompts.round(i) for i in reversed(range(40))] == rounds[::-1]
    assert [order(12, 8, seed=1).round(i) for i in range(40)] != rounds


def test_what_a_straddling_round_has_of_the_old_pass_comes_later_in_the_new_one():
    """Three prompts in rounds of two: the second round is the last of one pass and one of the other two."""
    for seed in range(20):
        a, b, c, d, e, f = (i for number in range(3) for i in order(3, 2, seed).round(number))
        assert {a, b, c} == {d, e, f} == {0, 1, 2}
        assert c != d


def test_more_prompts_a_round_than_there_are_repeat_as_little_as_can_be():
    assert sorted(Counter(order(3, 8).round(0)).values()) == [2, 3, 3]
