"""What only a GPU does by itself, here on a CPU: runs that attend together, padded, and rows that wait for one another."""

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.engines.base import GenerationRequest, SamplingParams
from mentor_pl.engines.cascade import graphs, run_attention, session
from mentor_pl.engines.cascade.decoder import Decoder
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.cascade.kv_store import KVStore
from mentor_pl.engines.cascade.run_attention import Run, _together
from mentor_pl.testing.tiny_models import tiny_random_model
from tests.unit.engines.cascade.op_tape import Tapes
from tests.unit.engines.cascade.test_engine import PROMPTS, ROWS, assert_exact, roll_out
from tests.unit.engines.cascade.test_model_decoder import FEW
from tests.unit.engines.models import FAMILIES, tiny_model


@pytest.fixture
def together(monkeypatch):
    """Number of runs of each part that attended."""
    sizes, part = [], run_attention._Part
    monkeypatch.setitem(run_attention.SCORES_TOGETHER, "cpu", 1 << 28)
    monkeypatch.setattr(run_attention, "_Part", lambda *args: sizes.append(len(args[1])) or part(*args))
    return sizes


@pytest.mark.parametrize("family", FAMILIES)
def test_runs_that_attend_together_compute_a_full_forward(family, together):
    model = tiny_model(family)
    conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations)
    assert max(together) > 2


@pytest.mark.parametrize("family", FEW)
def test_so_do_those_of_a_models_own_forward(family, together):
    model = tiny_random_model(family)
    conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations, atol=1e-3)


def runs_of(*lengths, start=0):
    return [Run(tuple(range(length)), slot, start) for slot, length in enumerate(lengths)]


def test_of_runs_that_attend_together_none_is_twice_as_long_as_another(monkeypatch):
    decoder, runs = Decoder(tiny_model("llama")), runs_of(3, 8, 1, 5, 4, 9)
    assert _together(runs, decoder) == [[5], [1], [3], [4], [0], [2]]
    monkeypatch.setitem(run_attention.SCORES_TOGETHER, "cpu", 1 << 28)
    assert _together(runs, decoder) == [[5, 1, 3], [4, 0], [2]]
    # four heads: two runs of 10 tokens have 2 * 10 * 10 * 4 scores
    monkeypatch.setitem(run_attention.SCORES_TOGETHER, "cpu", 800)
    assert _together(runs_of(10, 10, 10), decoder) == [[0, 1], [2]]
    # twice as many where there are as many tokens before them
    assert _together(runs_of(10, 10, 10, start=10), decoder) == [[0], [1], [2]]


def held_rollout(monkeypatch, recorder):
    """Eight rows that end one after the other and are continued at once; returns the rows and how many runs each forward had."""
    counts, compute = [], session.compute_runs
    monkeypatch.setattr(session, "compute_runs", lambda *args: counts.append(len(args[3])) or compute(*args))
    monkeypatch.setitem(graphs.RECORDERS, "cpu", recorder)
    engine, rows = CascadeEngine(), {row: PROMPTS[0] for row in range(8)}
    engine.sync(tiny_model("llama"), 0)
    counts.clear()

    def request(row, budget):
        return GenerationRequest(row=row, token_ids=rows[row], max_new_tokens=budget, seed=row)

    with engine.session(SamplingParams(), ()) as opened:
        opened.submit([request(row, 4 + row) for row in rows])
        again = set(rows)
        while done := opened.poll():
            for row, completion in done:
                rows[row] += completion.token_ids
                if row in again:
                    again.remove(row)
                    rows[row] += (7, 8, 9)
                    opened.submit([request(row, 3)])
    return rows, counts


def test_beside_recorded_steps_rows_wait_for_a_quarter_of_the_live_ones(monkeypatch):
    rows, counts = held_rollout(monkeypatch, Tapes())
    assert sum(counts) == 8
    # 7 to 6 live rows: two go on together; the last ones have nobody to wait for
    assert counts[0] == 2 and len(counts) < 8
    plain, _ = held_rollout(monkeypatch, None)
    assert rows == plain


def test_slots_move_all_at_once():
    store = KVStore(Decoder(tiny_model("llama")))
    store.reserve(4, 16)
    keys, _ = store.read(0, 0, 4, 16)
    keys.copy_(torch.arange(4.0)[:, None, None, None].expand_as(keys))
    store.move([(0, 1), (1, 0), (3, 2)], 5)
    keys, _ = store.read(0, 0, 4, 16)
    assert keys[:, 0, :5, 0].unique(dim=1)[:, 0].tolist() == [1.0, 0.0, 3.0, 3.0]
    assert_close(keys[:, 0, 5:, 0].unique(dim=1)[:, 0], torch.arange(4.0))


@pytest.mark.parametrize(("count", "room", "padded"), [(1, 99, 1), (2, 99, 4), (5, 99, 16), (17, 64, 64), (17, 63, 32)])
def test_steps_are_padded_to_powers_of_four_where_there_is_room(count, room, padded):
    assert graphs._padded(count, room) == padded
