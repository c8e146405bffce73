import random

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close
from transformers import LlamaConfig

from mentor_pl.engines.base import GenerationRequest, SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.cascade.model_decoder import ModelDecoder
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import ConfigError, EngineError
from mentor_pl.students.nf4 import Nf4LoraStudent
from mentor_pl.testing.tiny_models import tiny_random_model
from tests.unit.engines.models import FAMILIES, VOCAB, full_forward_logprobs, tiny_model

STOP = (0, 1, 2, 3, 4, 5, 6)  # about one token in 14: turns end at different times
HEADER = tuple(range(20, 40))
PROMPTS = [HEADER + (41, 42, 43), HEADER + (51,), (61, 62, 63, 64, 65, 66, 67)]


def roll_out(engine, model, rows, *, turns=3, sampling=SamplingParams(), budget=14, interrupts=False):  # noqa: B008
    """Multi-turn rollouts of `rows` ({row: prompt}) with tool results of random length; returns conversations and statistics.

    A conversation is (token_ids, sampled mask, logprobs). Which rows are continued in one go is left to chance, as with real tools.
    """
    engine.sync(model, version=7)
    chance = random.Random(0)
    conversations = {row: (list(prompt), [False] * len(prompt), [0.0] * len(prompt)) for row, prompt in rows.items()}
    turns_left = dict.fromkeys(rows, turns)

    def request(row):
        return GenerationRequest(row=row, token_ids=tuple(conversations[row][0]), max_new_tokens=budget, seed=100 + row)

    with engine.session(sampling, STOP) as session:
        session.submit([request(row) for row in rows])
        waiting = []
        asked = iter(range(10**6))
        while True:
            done = session.poll((lambda: next(asked) % 5 == 4) if interrupts else None)
            for row, completion in done:
                assert completion.policy_version == 7
                ends = completion.token_ids[-1] in STOP
                assert completion.finish_reason == ("stop" if ends else "length")
                assert ends or len(completion.token_ids) == budget
                assert not set(completion.token_ids[:-1]) & set(STOP)
                token_ids, sampled, logprobs = conversations[row]
                token_ids += completion.token_ids
                sampled += [True] * len(completion.token_ids)
                logprobs += completion.logprobs
                turns_left[row] -= 1
                if turns_left[row]:
                    reply = random.Random(row * 10 + turns_left[row])
                    tail = [reply.randrange(VOCAB) for _ in range(reply.randrange(1, 9))]
                    token_ids += tail
                    sampled += [False] * len(tail)
                    logprobs += [0.0] * len(tail)
                    waiting.append(row)
                else:
                    session.release(row)
            if waiting and (not done or chance.random() < 0.6):
                session.submit([request(row) for row in waiting])
                waiting.clear()
            elif not done and not interrupts:
                return conversations, session.statistics
            elif not done and not any(turns_left.values()):
                return conversations, session.statistics


def assert_exact(model, conversations, temperature=1.0, atol=1e-4):
    for token_ids, sampled, logprobs in conversations.values():
        mask = torch.tensor(sampled[1:])
        exact = full_forward_logprobs(model, token_ids, temperature)
        assert mask.sum() >= 3
        assert_close(torch.tensor(logprobs[1:])[mask], exact[mask], atol=atol, rtol=0)


ROWS = {row: PROMPTS[row // 3] for row in range(9)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prepack", [True, False])
def test_logprobs_of_multi_turn_rollouts_are_those_of_a_full_forward(family, prepack):
    model = tiny_model(family)
    conversations, _ = roll_out(CascadeEngine(prepack=prepack), model, ROWS)
    assert len(set(map(tuple, (c[0] for c in conversations.values())))) == 9
    assert_exact(model, conversations)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_rollouts_equal_generate_token_by_token(family):
    model = tiny_model(family)
    greedy = SamplingParams(temperature=0)
    fast, _ = roll_out(CascadeEngine(), model, ROWS, sampling=greedy)
    plain, _ = roll_out(HFGenerateEngine(), model, ROWS, sampling=greedy)
    assert {row: c[0] for row, c in fast.items()} == {row: c[0] for row, c in plain.items()}


def test_both_engines_sample_the_same_tokens():
    model = tiny_model("qwen3")
    sampling = SamplingParams(temperature=1.2, top_k=30, top_p=0.95, min_p=0.001)
    fast, _ = roll_out(CascadeEngine(), model, ROWS, sampling=sampling)
    plain, _ = roll_out(HFGenerateEngine(), model, ROWS, sampling=sampling)
    for row in ROWS:
        assert fast[row][0] == plain[row][0]
        assert_close(torch.tensor(fast[row][2]), torch.tensor(plain[row][2]), atol=1e-4, rtol=0)


def test_temperature_is_scored():
    model = tiny_model("llama")
    conversations, _ = roll_out(CascadeEngine(), model, ROWS, sampling=SamplingParams(temperature=0.5))
    assert_exact(model, conversations, temperature=0.5)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_row_does_not_depend_on_the_others(family):
    model = tiny_model(family)
    together, _ = roll_out(CascadeEngine(), model, ROWS)
    few_at_a_time, _ = roll_out(CascadeEngine(max_rows=2), model, ROWS)
    interrupted, _ = roll_out(CascadeEngine(), model, ROWS, interrupts=True)
    for row, prompt in ROWS.items():
        alone, _ = roll_out(CascadeEngine(), model, {row: prompt})
        assert alone[row][0] == together[row][0] == few_at_a_time[row][0] == interrupted[row][0]


def test_nothing_is_computed_twice():
    conversations, statistics = roll_out(CascadeEngine(), tiny_model("llama"), ROWS)
    given = sum(sampled.count(False) for _, sampled, _ in conversations.values())
    drawn = sum(sampled.count(True) for _, sampled, _ in conversations.values())
    # each prompt once, the second one without the header that it shares; a continued turn brings its last sampled token along
    prompts = 23 + 1 + 7
    tails = given - sum(map(len, ROWS.values()))
    assert statistics.prefill_tokens == prompts + tails + 2 * len(ROWS)
    assert statistics.row_steps == statistics.sampled_tokens == drawn
    assert statistics.useful_share == 1.0


def test_lora_adapters_take_part_without_being_merged():
    model = get_peft_model(tiny_model("qwen2"), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_4_bit_student_is_called_as_it_is(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    model = Nf4LoraStudent(str(tmp_path), rank=4, dtype="float32").load_model()
    packed = [m.weight.data.clone() for m in model.modules() if isinstance(m, Linear4bit)]
    conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations, atol=1e-3)
    assert all(map(torch.equal, packed, [m.weight.data for m in model.modules() if isinstance(m, Linear4bit)]))
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, mixed, atol=0.15)


@pytest.mark.parametrize("prepack", [True, False])
def test_sync_takes_over_new_weights(prepack):
    model, engine = tiny_model("llama"), CascadeEngine(prepack=prepack)
    roll_out(engine, model, ROWS, turns=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    conversations, _ = roll_out(engine, model, ROWS)
    assert_exact(model, conversations)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_bfloat16_weights_stay_close_to_the_models_own_forward(family):
    model = tiny_model(family, torch.bfloat16)
    conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations, atol=0.15)


def test_autocast_and_cheaper_precision_compute_in_bfloat16():
    model = tiny_model("llama")
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = roll_out(CascadeEngine(), model, ROWS)
    cheap, _ = roll_out(CascadeEngine(precision="bfloat16"), model, ROWS)
    assert mixed == cheap
    exact, _ = roll_out(CascadeEngine(), model, ROWS)
    assert mixed != exact
    assert_exact(model, mixed, atol=0.15)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prepack", [True, False])
def test_a_rollout_leaves_gradients_alone(family, prepack):
    """Neither inference tensors nor weights cast without gradients may be what a training step finds."""
    model = tiny_model(family)
    with torch.autocast("cpu", torch.bfloat16):
        roll_out(CascadeEngine(prepack=prepack), model, {0: PROMPTS[2]}, turns=1)
        model(input_ids=torch.tensor([PROMPTS[0]])).logits.float().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_rollout_of_a_lora_student_leaves_gradients_alone():
    model = get_peft_model(tiny_model("llama"), LoraConfig(r=4, target_modules=["q_proj", "gate_proj"]))
    with torch.autocast("cpu", torch.bfloat16):
        roll_out(CascadeEngine(), model, {0: PROMPTS[2]}, turns=1)
        model(input_ids=torch.tensor([PROMPTS[0]])).logits.float().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "lora_" in name)


def test_tool_results_longer_than_one_forward_are_computed_ahead(monkeypatch):
    monkeypatch.setattr("mentor_pl.engines.cascade.session.TOKENS_PER_FORWARD", 3)
    monkeypatch.setattr("mentor_pl.engines.cascade.prefill.TOKENS_PER_FORWARD", 3)
    model = tiny_model("gemma3")
    conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations)


def test_a_row_started_anew_forgets_its_cache():
    model, engine = tiny_model("llama"), CascadeEngine()
    engine.sync(model, version=0)

    def request(token_ids):
        return GenerationRequest(row=0, token_ids=token_ids, max_new_tokens=4, seed=1)

    with engine.session(SamplingParams(), ()) as session:
        session.submit([request(PROMPTS[0])])
        [(_, first)] = session.poll()
        other = PROMPTS[0] + first.token_ids[:2] + (9, 9, 9, 9)
        session.submit([request(other)])
        [(_, completion)] = session.poll()
    exact = full_forward_logprobs(model, [*other, *completion.token_ids])[len(other) - 1 :]
    assert_close(torch.tensor(completion.logprobs), exact, atol=1e-4, rtol=0)


def test_released_rows_and_their_prompts_free_their_slots():
    engine = CascadeEngine()
    engine.sync(tiny_model("llama"), version=0)
    with engine.session(SamplingParams(), ()) as session:
        for wave in range(5):
            prompt = (wave, 50, 51, 52)
            rows = [10 * wave + i for i in range(4)]
            session.submit([GenerationRequest(row=row, token_ids=prompt, max_new_tokens=3, seed=row) for row in rows])
            while done := session.poll():
                for row, _ in done:
                    session.release(row)
        assert session._suffixes.slots == 4
        assert session._prompts.store.slots <= 2


def test_poll_returns_when_interrupted_and_goes_on_where_it_was():
    engine = CascadeEngine()
    engine.sync(tiny_model("llama"), version=0)
    with engine.session(SamplingParams(), ()) as session:
        session.submit([GenerationRequest(row=0, token_ids=PROMPTS[0], max_new_tokens=6, seed=0)])
        asked = []
        assert session.poll(lambda: asked.append(1) or len(asked) == 3) == []
        assert session.statistics.row_steps == 3
        [(row, completion)] = session.poll()
        assert (row, len(completion.token_ids)) == (0, 6)
        assert session.poll() == []


def test_a_row_under_way_cannot_be_submitted_again():
    engine = CascadeEngine()
    engine.sync(tiny_model("llama"), version=0)
    request = GenerationRequest(row=3, token_ids=PROMPTS[0], max_new_tokens=6, seed=0)
    with engine.session(SamplingParams(), ()) as session:
        session.submit([request])
        with pytest.raises(EngineError, match="row 3 was submitted twice"):
            session.submit([request])
        session.poll(lambda: True)
        with pytest.raises(EngineError, match="row 3 was submitted twice"):
            session.submit([request])


def test_models_that_are_not_supported_are_refused_with_the_reason():
    with pytest.raises(EngineError, match="StableLmForCausalLM does not hand keywords of its forward to its attention"):
        CascadeEngine().sync(tiny_random_model("stablelm"), version=0)
    config = FAMILIES["llama"]()
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    with pytest.raises(EngineError, match="type 'dynamic' depend on the length"):
        CascadeEngine().sync(type(tiny_model("llama"))(LlamaConfig(**config.to_dict())), version=0)


def test_a_model_whose_attention_leaves_the_soft_cap_out_is_refused():
    model = tiny_model("gemma2")
    model.config._attn_implementation = "sdpa"
    with pytest.raises(EngineError, match="sdpa leaves out the cap .* attn_implementation: eager"):
        CascadeEngine().sync(model, version=0)


def test_a_model_that_departs_from_its_family_is_found_out():
    model = tiny_model("llama")
    model.model.layers[1].self_attn.o_proj.register_forward_hook(lambda module, args, output: output * 1.5)
    CascadeEngine(prepack=False).sync(model, version=0)  # the layer is called as it is, hook included
    engine = CascadeEngine()
    engine.sync(model, version=0)  # a copied layer has no hook: the model's own forward is called
    assert type(engine._decoder) is ModelDecoder


def test_a_model_that_computes_something_else_token_by_token_is_refused():
    model = tiny_model("llama")
    model.model.layers[1].self_attn.o_proj.register_forward_hook(lambda module, args, output: output * output.shape[1])
    with pytest.raises(EngineError, match="computes other log-probabilities than LlamaForCausalLM"):
        CascadeEngine().sync(model, version=0)


def test_whatever_a_models_own_code_raises_is_a_reason_to_refuse_it(monkeypatch):
    model = tiny_random_model("olmo2")
    monkeypatch.setattr(model, "forward", lambda input_ids, **inputs: 1 / 0)
    with pytest.raises(EngineError, match="cannot be called by CascadeEngine: ZeroDivisionError"):
        CascadeEngine().sync(model, version=0)


def test_misuse_is_named():
    with pytest.raises(ConfigError, match="max_rows is 0"):
        CascadeEngine(max_rows=0)
    with pytest.raises(ConfigError, match="precision is 'int8'"):
        CascadeEngine(precision="int8")
    with pytest.raises(EngineError, match="call sync"), CascadeEngine().session(SamplingParams(), [0]):
        pass
