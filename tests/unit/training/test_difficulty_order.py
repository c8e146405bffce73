"""The order of prompts by difficulty: what is open, what is due, and what a resumed run draws."""

from __future__ import annotations

from typing import Any

from mentor_pl.guidance import Curriculum, DifficultyPools
from mentor_pl.training.difficulty_order import DifficultyOrder, over_ranks
from mentor_pl.training.mixture_order import MixtureOrder, MixtureSchedule
from mentor_pl.training.prompt_order import EqualRounds, PromptOrder

DIFFICULTIES = [3.0, 1.0, 2.0, 1.0, 3.0, 2.0, 1.0, 3.0]


def order(curriculum: Any = None, pools: Any = None, seed: int = 0) -> DifficultyOrder:
    return DifficultyOrder(
        difficulties=DIFFICULTIES, rounds=EqualRounds(2), seed=seed, curriculum=curriculum, pools=pools
    )


def rounds(prompts: PromptOrder, first: int, last: int) -> list[list[int]]:
    """Rounds in which prompts of even index succeed."""
    out = []
    for index in range(first, last):
        out.append(prompts.round(index))
        prompts.note(index, {i: float(i % 2 == 0) for i in out[-1]})
    return out


def test_easy_prompts_come_first() -> None:
    drawn = rounds(order(Curriculum(rounds=8, first_share=0.25)), 0, 12)
    # Two prompts are open at first, three from round 1 on: those of difficulty 1.
    assert {DIFFICULTIES[i] for one in drawn[:2] for i in one} == {1.0}
    assert {DIFFICULTIES[i] for i in drawn[2]} | {DIFFICULTIES[i] for i in drawn[3]} <= {1.0, 2.0}
    assert {i for one in drawn for i in one} == set(range(8))


def test_without_pools_all_are_tried_equally_often() -> None:
    drawn = rounds(order(Curriculum(first_share=1.0)), 0, 8)
    assert sorted(i for one in drawn for i in one) == sorted([*range(8)] * 2)
    assert all(len(set(one)) == 2 for one in drawn)


def test_solved_prompts_come_seldom() -> None:
    prompts = order(pools=DifficultyPools(failed=0.0, solved=0.0))
    drawn = rounds(prompts, 0, 4)
    assert sorted(i for one in drawn for i in one) == list(range(8))  # all are unseen: in between
    assert prompts.metrics() == {"pool/failed": 0.5, "pool/solved": 0.5, "pool/unseen": 0.0}
    assert all(i % 2 == 1 for one in rounds(prompts, 4, 8) for i in one)  # nothing is in between: the failed come first


def test_a_resumed_run_draws_what_the_whole_one_does() -> None:
    settings = Curriculum(rounds=6, first_share=0.5), DifficultyPools()
    whole = order(*settings)
    first = rounds(whole, 0, 5)
    saved = whole.state(next_round=5)
    saved_before = whole.state(next_round=4)  # round 4 was drawn, but none of its steps made
    rest = rounds(whole, 5, 12)
    resumed, again = order(*settings), order(*settings)
    resumed.load_state(saved)
    assert rounds(resumed, 5, 12) == rest
    again.load_state(saved_before)
    assert rounds(again, 4, 12) == [first[4], *rest]
    assert rounds(order(*settings, seed=1), 0, 5) != first


def test_ranks_know_of_all_groups() -> None:
    others = [0.0, 1.0, 0.25, 0.0, 1.0, 1.0]  # sums, then counts, of three prompts
    total = over_ranks([(0, 0.5), (2, 0.75)], 3, lambda mine: [a + b for a, b in zip(mine, others, strict=True)])
    assert total == {0: 0.5, 1: 1.0, 2: 0.5}


def mixture(pools: Any = None, curriculum: Any = None) -> MixtureOrder:
    """Two environments of the same eight difficulties, with weights 2 and 1, in rounds of 4."""
    schedule = MixtureSchedule([2, 1], 4)
    members = {
        name: DifficultyOrder(
            difficulties=DIFFICULTIES, rounds=schedule.windows(i), seed=0, curriculum=curriculum, pools=pools, name=name
        )
        for i, name in enumerate(("a", "b"))
    }
    return MixtureOrder(members, schedule=schedule, round_size=4, seed=0)


def test_in_a_mixture_each_environment_begins_with_its_own_easy_prompts() -> None:
    prompts = mixture(curriculum=Curriculum(rounds=40, first_share=0.3))
    first = [prompts.round(0), prompts.round(1)]
    assert all(DIFFICULTIES[i % 8] == 1.0 for one in first for i in one)  # three of eight are open
    assert [sum(i < 8 for i in one) for one in first] == [3, 2] and all(len(set(one)) == 4 for one in first)
    assert set(first[0]) - {1, 3, 6} <= {9, 11, 14}


def test_in_a_mixture_pools_are_of_each_environment() -> None:
    prompts = mixture(pools=DifficultyPools(failed=0.0, solved=0.0))
    for index in range(12):  # in the first, prompts of even index succeed; in the second, none does
        prompts.note(index, {i: float(i % 2 == 0 and i < 8) for i in prompts.round(index)})
    assert prompts.metrics() == {
        **{"a/pool/failed": 0.5, "a/pool/solved": 0.5, "a/pool/unseen": 0.0},
        **{"b/pool/failed": 1.0, "b/pool/solved": 0.0, "b/pool/unseen": 0.0},
    }
    later = [i for index in range(12, 15) for i in prompts.round(index)]
    assert all(i % 2 == 1 for i in later if i < 8)
    assert prompts.is_adaptive


def test_a_share_that_no_round_can_have_evens_out() -> None:
    """Of two places a round, a fifth is for failing prompts: one in every second or third round."""
    pools = DifficultyPools(failed=0.2, solved=0.0)
    rates = [0.0] * 4 + [0.5] * 4
    failing = [
        sum(i < 4 for i in pools.chosen(rates, range(8), num_places=2, places_before=2 * index)) for index in range(10)
    ]
    assert sum(failing) == 4 and max(failing) == 1


def test_a_resumed_mixture_draws_what_the_whole_one_does() -> None:
    settings = DifficultyPools(), Curriculum(rounds=6, first_share=0.5)
    whole = mixture(*settings)
    rounds(whole, 0, 5)
    saved, saved_before = whole.state(next_round=5), whole.state(next_round=4)
    rest = rounds(whole, 5, 12)
    for first, state in ((5, saved), (4, saved_before)):
        resumed = mixture(*settings)
        resumed.load_state(state)
        assert rounds(resumed, first, 12)[5 - first :] == rest
