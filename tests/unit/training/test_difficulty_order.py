"""The order of prompts by difficulty: what is open, what is due, and what a resumed run draws."""

from __future__ import annotations

from typing import Any

from mentor_pl.guidance import Curriculum, DifficultyPools
from mentor_pl.training.difficulty_order import DifficultyOrder, over_ranks

DIFFICULTIES = [3.0, 1.0, 2.0, 1.0, 3.0, 2.0, 1.0, 3.0]


def order(curriculum: Any = None, pools: Any = None, seed: int = 0) -> DifficultyOrder:
    return DifficultyOrder(difficulties=DIFFICULTIES, round_size=2, seed=seed, curriculum=curriculum, pools=pools)


def rounds(prompts: DifficultyOrder, first: int, last: int) -> list[list[int]]:
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
    assert prompts.pool_shares() == {"pool/failed": 0.5, "pool/solved": 0.5, "pool/unseen": 0.0}
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
