import logging
import warnings

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from torch.testing import assert_close

from mentor_pl.engines.base import EngineStatistics, GenerationRequest, SamplingParams
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import ConfigError, EngineError
from tests.unit.engines.models import full_forward_logprobs, tiny_model

PROMPTS = [(5, 6, 7, 8, 9), (11, 12), (3, 0, 3)]


def request(row, token_ids, max_new_tokens=12, seed=None):
    return GenerationRequest(
        row=row, token_ids=tuple(token_ids), max_new_tokens=max_new_tokens, seed=1000 + row if seed is None else seed
    )


def generate(model, requests, sampling=SamplingParams(), stop=(0,), **options):  # noqa: B008 - frozen
    engine = HFGenerateEngine(**options)
    engine.sync(model, version=4)
    done = {}
    with engine.session(sampling, stop) as session:
        session.submit(requests)
        while batch := session.poll():
            done.update(batch)
        return done, session.statistics


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_those_of_a_full_forward(temperature):
    model = tiny_model("llama")
    done, _ = generate(
        model, [request(row, ids) for row, ids in enumerate(PROMPTS)], SamplingParams(temperature=temperature)
    )
    for row, prompt in enumerate(PROMPTS):
        completion = done[row]
        exact = full_forward_logprobs(model, [*prompt, *completion.token_ids], temperature)[len(prompt) - 1 :]
        assert_close(torch.tensor(completion.logprobs), exact, atol=1e-4, rtol=0)
        assert completion.policy_version == 4


def test_a_row_samples_the_same_alone_and_in_company():
    model = tiny_model("qwen2")
    together, _ = generate(model, [request(row, ids) for row, ids in enumerate(PROMPTS)])
    for row, prompt in enumerate(PROMPTS):
        alone, _ = generate(model, [request(0, prompt, seed=1000 + row)])
        assert alone[0].token_ids == together[row].token_ids


def test_a_continued_row_draws_by_position_not_by_turn():
    """Cutting one completion into two requests changes nothing: the random number belongs to the position."""
    model = tiny_model("llama")
    whole, _ = generate(model, [request(0, PROMPTS[0], max_new_tokens=9)], stop=())
    first, _ = generate(model, [request(0, PROMPTS[0], max_new_tokens=4)], stop=())
    second, _ = generate(model, [request(0, PROMPTS[0] + first[0].token_ids, max_new_tokens=5, seed=1000)], stop=())
    assert first[0].token_ids + second[0].token_ids == whole[0].token_ids


def test_each_row_ends_at_its_own_budget_or_at_a_stop_token():
    model = tiny_model("llama")
    free, _ = generate(model, [request(0, PROMPTS[0])], stop=())
    stop = free[0].token_ids[5]
    first = free[0].token_ids.index(stop)
    done, statistics = generate(
        model, [request(0, PROMPTS[0]), request(1, PROMPTS[0], max_new_tokens=2, seed=1000)], stop=(stop,)
    )
    assert done[0].token_ids == free[0].token_ids[: first + 1]
    assert done[0].finish_reason == "stop"
    assert len(done[1].token_ids) == min(2, first + 1)
    longest = first + 1
    assert statistics == EngineStatistics(
        prefill_tokens=10, row_steps=2 * longest, sampled_tokens=longest + len(done[1].token_ids)
    )


def test_greedy_equals_plain_generate():
    model = tiny_model("gemma3")
    done, _ = generate(model, [request(0, PROMPTS[0])], SamplingParams(temperature=0), stop=())
    model.eval()
    plain = model.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=12, do_sample=False)
    assert list(done[0].token_ids) == plain[0, 5:].tolist()


def test_batches_hold_at_most_the_given_rows():
    model = tiny_model("llama")
    requests = [request(row, ids) for row, ids in enumerate(PROMPTS)]
    together, _ = generate(model, requests)
    split, statistics = generate(model, requests, max_batch_rows=2)
    assert {row: c.token_ids for row, c in split.items()} == {row: c.token_ids for row, c in together.items()}
    assert statistics.prefill_tokens == 10 + 3  # two rows padded to 5, then one of 3


@pytest.fixture
def transformers_warnings(caplog):
    """Records of the transformers logger, which does not propagate to the root."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog.records
    logger.removeHandler(caplog.handler)


def test_the_models_own_generation_config_has_no_say_and_is_kept(transformers_warnings):
    model = tiny_model("llama")
    plain, _ = generate(model, [request(0, PROMPTS[0])])
    model.generation_config.update(repetition_penalty=5.0, max_length=3, top_k=1, temperature=0.1, do_sample=True)
    own = model.generation_config
    model.config.use_cache = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done, _ = generate(model, [request(0, PROMPTS[0]), request(1, PROMPTS[1])])
    assert done[0].token_ids == plain[0].token_ids
    assert model.generation_config is own
    assert transformers_warnings == []


def test_modes_come_back_as_they_were():
    model = tiny_model("llama")
    frozen = model.model.layers[0].eval()
    engine = HFGenerateEngine()
    engine.sync(model, version=0)
    with engine.session(SamplingParams(), [0]):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert model.model.layers[1].training
    assert not frozen.training


def test_lora_adapters_take_part():
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    done, _ = generate(model, [request(0, PROMPTS[0])])
    token_ids = [*PROMPTS[0], *done[0].token_ids]
    exact = full_forward_logprobs(model, token_ids)[len(PROMPTS[0]) - 1 :]
    assert_close(torch.tensor(done[0].logprobs), exact, atol=1e-4, rtol=0)
    with model.disable_adapter():
        assert (full_forward_logprobs(model, token_ids)[len(PROMPTS[0]) - 1 :] - exact).abs().max() > 0.1


def test_bfloat16_weights_generate():
    done, _ = generate(tiny_model("llama", torch.bfloat16), [request(row, ids) for row, ids in enumerate(PROMPTS)])
    assert all(logprob <= 0 for completion in done.values() for logprob in completion.logprobs)


def test_a_student_that_cannot_generate_is_named():
    with pytest.raises(EngineError, match="the student is a Linear; an in-process engine needs"):
        HFGenerateEngine().sync(nn.Linear(1, 1), version=0)
    prompted = get_peft_model(tiny_model("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(EngineError, match="virtual tokens before the prompt; use LoRA"):
        HFGenerateEngine().sync(prompted, version=0)


def test_misuse_is_named():
    with pytest.raises(ConfigError, match="max_batch_rows is 0"):
        HFGenerateEngine(max_batch_rows=0)
    with (
        pytest.raises(EngineError, match="call sync"),
        HFGenerateEngine().session(SamplingParams(), [0]),
    ):
        pass
