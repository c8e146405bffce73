import logging

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.engines.base import GenerationRequest, SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.engines.sampling import sample_tokens, uniforms
from mentor_pl.testing.tiny_models import tiny_random_model
from tests.unit.engines.cascade.test_model_decoder import FEW
from tests.unit.engines.models import FAMILIES, full_forward_logprobs, tiny_model

pytestmark = pytest.mark.gpu

PROMPTS = [tuple(range(20, 40)), tuple(range(20, 38)) + (41, 42), (61, 62, 63)]


def two_turns(engine, model, sampling=SamplingParams()):  # noqa: B008 - frozen
    """Sample six tokens, append four, sample six more, for three rows of each prompt; {row: (token_ids, logprobs)}."""
    engine.sync(model, version=0)
    rows = {row: PROMPTS[row // 3] for row in range(9)}
    logprobs = {row: [] for row in rows}
    with engine.session(sampling, ()) as session:
        for turn in range(2):
            session.submit(
                [GenerationRequest(row=row, token_ids=ids, max_new_tokens=6, seed=row) for row, ids in rows.items()]
            )
            while done := session.poll():
                for row, completion in done:
                    rows[row] += completion.token_ids
                    logprobs[row].append(completion.logprobs)
            if turn == 0:
                rows = {row: ids + (row, 7, 8, 9) for row, ids in rows.items()}
    return {row: (list(ids), logprobs[row]) for row, ids in rows.items()}


def assert_close_to_full_forward(model, found, atol):
    for token_ids, (first, second) in found.values():
        exact = full_forward_logprobs(model, token_ids).cpu()
        assert_close(torch.tensor(second), exact[-6:], atol=atol, rtol=0)
        assert_close(torch.tensor(first), exact[-16:-10], atol=atol, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_are_those_of_a_full_forward(family, device):
    torch.backends.cuda.matmul.allow_tf32 = False
    model = tiny_model(family).to(device)
    assert_close_to_full_forward(model, two_turns(CascadeEngine(), model), atol=1e-3)


@pytest.mark.parametrize("family", FEW)
def test_so_are_those_of_a_models_own_forward(family, device):
    torch.backends.cuda.matmul.allow_tf32 = False
    model = tiny_random_model(family).to(device)
    assert_close_to_full_forward(model, two_turns(CascadeEngine(), model), atol=2e-3)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_bfloat16_stays_close_to_a_full_forward(family, device):
    model = tiny_model(family, torch.bfloat16).to(device)
    assert_close_to_full_forward(model, two_turns(CascadeEngine(), model), atol=0.15)


def test_autocast_computes_in_bfloat16(device):
    model = tiny_model("qwen3").to(device)
    with torch.autocast(device, torch.bfloat16):
        found = two_turns(CascadeEngine(), model)
    assert_close_to_full_forward(model, found, atol=0.15)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_rollouts_equal_generate(family, device):
    torch.backends.cuda.matmul.allow_tf32 = False
    model = tiny_model(family).to(device)
    greedy = SamplingParams(temperature=0)
    fast, plain = two_turns(CascadeEngine(), model, greedy), two_turns(HFGenerateEngine(), model, greedy)
    assert {row: ids for row, (ids, _) in fast.items()} == {row: ids for row, (ids, _) in plain.items()}


def test_recorded_steps_compute_what_computed_ones_do(device, caplog):
    if device != "cuda":
        pytest.skip("nothing is recorded on a CPU; tests/unit/engines/cascade/test_graphs.py does")
    torch.backends.cuda.matmul.allow_tf32 = False
    model = tiny_model("qwen3").to(device)
    with caplog.at_level(logging.WARNING):
        recorded = two_turns(CascadeEngine(), model)
    assert not caplog.records  # where recording fails, steps are computed with a warning
    computed = two_turns(CascadeEngine(graphs=False), model)
    for row, (token_ids, logprobs) in recorded.items():
        assert token_ids == computed[row][0]
        assert_close(torch.tensor(logprobs), torch.tensor(computed[row][1]), atol=1e-4, rtol=0)


def test_random_numbers_and_draws_equal_the_cpus(device):
    seeds, positions = torch.arange(-500, 500), torch.arange(1000) * 7
    numbers = uniforms(seeds, positions)
    assert torch.equal(uniforms(seeds.to(device), positions.to(device)).cpu(), numbers)
    logits = torch.randn(1000, 600)
    sampling = SamplingParams(top_p=0.9, min_p=0.01)
    on_cpu, _ = sample_tokens(logits, sampling, numbers)
    on_device, _ = sample_tokens(logits.to(device), sampling, numbers.to(device))
    # a number that falls on the border of two tokens may go to either: their sums are rounded differently
    assert (on_cpu != on_device.cpu()).sum() <= 2
