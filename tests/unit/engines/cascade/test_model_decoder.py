"""Any decoder by its own forward, with our attention and states per row."""

import pytest
import torch

from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.cascade.model_decoder import ModelDecoder
from mentor_pl.engines.cascade.partial_attention import weigh_against_sinks
from mentor_pl.engines.cascade.prefill import _rows_of_equal_length
from mentor_pl.engines.cascade.run_attention import Run
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.testing.tiny_models import tiny_random_model
from tests.unit.engines.cascade.test_engine import ROWS, assert_exact, roll_out
from tests.unit.engines.models import MAMBA2

FEW = ["gpt_oss", "deepseek_v3", "gemma4_text", "lfm2", MAMBA2]
"""Sinks and experts; keys wider than values; layers of unequal heads; states and attention in turn; no attention. The integration
tests take all families."""


@pytest.mark.parametrize("family", FEW)
def test_multi_turn_rollouts_are_those_of_a_full_forward(family):
    model = tiny_random_model(family)
    engine = CascadeEngine()
    conversations, statistics = roll_out(engine, model, ROWS)
    assert type(engine._decoder) is ModelDecoder
    assert_exact(model, conversations, atol=1e-3)
    assert statistics.useful_share == 1.0
    few, _ = roll_out(CascadeEngine(max_rows=2), model, ROWS)
    assert [c[0] for c in few.values()] == [c[0] for c in conversations.values()]


@pytest.mark.parametrize("family", ["gpt_oss", "lfm2"])
def test_greedy_rollouts_equal_generate_token_by_token(family):
    model, greedy = tiny_random_model(family), SamplingParams(temperature=0)
    fast, _ = roll_out(CascadeEngine(), model, ROWS, sampling=greedy)
    plain, _ = roll_out(HFGenerateEngine(), model, ROWS, sampling=greedy)
    assert {row: c[0] for row, c in fast.items()} == {row: c[0] for row, c in plain.items()}


def test_bfloat16_arithmetic_of_float32_weights():
    model = tiny_random_model("lfm2")
    conversations, _ = roll_out(CascadeEngine(precision="bfloat16"), model, ROWS)
    assert_exact(model, conversations, atol=0.5)


def test_a_sink_takes_its_share_of_the_exponential_mass():
    # one key of score 0 and a sink of score ln 3: the key keeps a quarter
    output = weigh_against_sinks(torch.tensor([[8.0]]), torch.tensor([0.0]), torch.tensor([3.0]).log())
    assert output.tolist() == [[2.0]]


def test_runs_are_cut_so_that_rows_of_one_length_go_together():
    runs = [Run((1, 2, 3, 4, 5), 0, 10), Run((6,), 1, 20), Run((7, 8, 9, 10), 2, 0)]
    pieces = [(indices, [(p.token_ids, p.start) for p in batch]) for indices, batch in _rows_of_equal_length(runs)]
    assert pieces == [
        ([0, 2], [((1, 2, 3, 4), 10), ((7, 8, 9, 10), 0)]),
        ([0, 1], [((5,), 14), ((6,), 20)]),
    ]
