"""Packed, padded and plain: one truth."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig, PhiConfig

from mentor_pl.testing.tiny_models import tiny_random_model
from mentor_pl.training.batching import packed_batch, padded_batch
from mentor_pl.training.packed_attention import supports_packing
from mentor_pl.training.policy import Policy, ReferencePolicy
from tests.unit.engines.models import FAMILIES, MAMBA2, tiny_model
from tests.unit.training.samples import two_groups

PACKABLE = list(FAMILIES)


def plain_logprobs(model, samples, temperature=1.0):
    """Each sample alone through the model, log-softmax over whole logits: [N] log-probabilities and entropies."""
    logprobs, entropies = [], []
    for sample in samples:
        logits = model(input_ids=sample.token_ids[None]).logits[0, :-1].float() / temperature
        table = logits.log_softmax(-1)[sample.loss_mask[1:]]
        logprobs.append(table.gather(1, sample.token_ids[1:][sample.loss_mask[1:], None])[:, 0])
        entropies.append(-(table.exp() * table).sum(-1))
    return torch.cat(logprobs), torch.cat(entropies)


def gradients(model, logprobs):
    model.zero_grad()
    (logprobs * torch.linspace(-1, 1, len(logprobs))).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def batch(kind, samples):
    return {"packed": packed_batch, "padded": padded_batch}[kind](samples, pad_token_id=0, num_loss_tokens=1.0)


@pytest.mark.parametrize(("family", "kind"), [*((f, "packed") for f in PACKABLE), *((f, "padded") for f in FAMILIES)])
def test_logprobs_entropies_and_gradients_are_those_of_the_plain_model(family, kind):
    model, samples = tiny_model(family), two_groups()
    expected, expected_entropies = plain_logprobs(model, samples, temperature=0.7)
    expected_gradients = gradients(model, expected)

    given = batch(kind, samples)
    given = type(given)(**{f: getattr(given, f) for f in given.__slots__} | {"temperature": 0.7})
    logprobs, entropies = Policy(model, packing=kind == "packed", chunk_tokens=3).score(given)

    assert_close(logprobs, expected, rtol=0, atol=1e-5)
    assert_close(entropies, expected_entropies.detach(), rtol=0, atol=1e-5)
    assert not entropies.requires_grad
    found = gradients(model, logprobs)
    assert found.keys() == expected_gradients.keys()
    for name, gradient in found.items():
        scale = expected_gradients[name].abs().max().clamp(min=1.0)
        assert_close(gradient / scale, expected_gradients[name] / scale, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_gradient_checkpointing_changes_no_gradient(kind):
    """Layers run again in the backward pass, when the packed row must still be attended to as a packed row."""
    model = tiny_model("llama")
    given = batch(kind, two_groups())
    plain = gradients(model, Policy(model, packing=None).score(given)[0])
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_close(gradients(model, Policy(model, packing=None).score(given)[0]), plain, rtol=1e-5, atol=1e-6)


SMALL = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=64,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)


@pytest.mark.parametrize(
    "config", [CohereConfig(**SMALL), GraniteConfig(**SMALL, logits_scaling=4.0), PhiConfig(**SMALL)]
)
def test_models_that_do_more_to_logits_than_multiply(config):
    """Cohere and Granite scale them, Phi adds a bias."""
    torch.manual_seed(0)
    model, samples = AutoModelForCausalLM.from_config(config), two_groups()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    policy = Policy(model, packing=None)
    assert len(policy.score(packed_batch([], pad_token_id=0, num_loss_tokens=1.0))[0]) == 0
    for _ in range(2):
        assert_close(policy.score(batch("packed", samples))[0], plain_logprobs(model, samples)[0], rtol=0, atol=1e-5)


def test_an_adapter_on_the_output_head_counts():
    options = LoraConfig(target_modules=["q_proj", "lm_head"], r=2, init_lora_weights=False)
    model, samples = get_peft_model(tiny_model("llama"), options), two_groups()
    expected = plain_logprobs(model, samples)[0]
    logprobs = Policy(model, packing=None).score(batch("packed", samples))[0]
    assert_close(logprobs, expected, rtol=0, atol=1e-5)
    assert any("lm_head" in name for name in gradients(model, logprobs))


def test_which_models_can_be_packed(caplog):
    assert all(supports_packing(tiny_model(family))[0] for family in FAMILIES)
    model = tiny_random_model("lfm2")
    assert supports_packing(model) == (False, "its layers carry a recurrent state from token to token (conv)")
    assert not Policy(model, packing=True).packing
    assert "this student cannot be packed: its layers carry a recurrent state" in caplog.text
    assert not Policy(model, packing=None).packing
    assert "batches are padded, not packed, which is slower: its layers carry a recurrent state" in caplog.text
    assert (
        supports_packing(tiny_random_model("stablelm"))[1]
        == "StableLmForCausalLM does not take other attention functions"
    )


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v3", "cohere2", "lfm2", MAMBA2])
def test_sinks_experts_windows_and_recurrent_states_are_scored_as_the_plain_model_scores_them(family):
    """Packed where that can be; padding on the right changes no recurrent state that is looked at."""
    model, samples = tiny_random_model(family), two_groups()
    expected = plain_logprobs(model, samples)[0]
    policy = Policy(model, packing=None)
    assert policy.packing == (family not in ("lfm2", "mamba2"))
    found = policy.score(batch("packed" if policy.packing else "padded", samples))[0]
    assert_close(found, expected, rtol=0, atol=1e-5)
    expected_gradients = gradients(model, expected)
    for name, gradient in gradients(model, found).items():
        assert_close(gradient, expected_gradients[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_forward_outside_packing_is_untouched():
    model, ids = tiny_model("llama"), torch.tensor([[1, 2, 3, 4]])
    before = model(input_ids=ids).logits
    Policy(model, packing=None).score(batch("packed", two_groups()))
    assert torch.equal(model(input_ids=ids).logits, before)


@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_an_empty_micro_batch_has_no_gradient(kind):
    model = tiny_model("llama")
    logprobs, entropies = Policy(model, packing=None).score(batch(kind, []))
    assert (logprobs.shape, entropies.shape) == ((0,), (0,))
    logprobs.sum().backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_the_reference_policy_stays_when_the_student_moves():
    model, given = tiny_model("llama"), batch("packed", two_groups())
    policy, start = Policy(model, packing=None), ReferencePolicy(model)
    before = policy.score(given)[0].detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert torch.equal(policy.score_ref_policy(given, start), before)
    assert (policy.score(given)[0] - before).abs().max() > 0.1
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_the_reference_policy_of_an_adapter_is_the_adapter_switched_off():
    given, base = batch("packed", two_groups()), tiny_model("llama")
    before = Policy(base, packing=None).score(given)[0].detach()
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)).train()
    policy, start = Policy(model, packing=None), ReferencePolicy(model)
    assert policy.packing and start.copy is None
    assert_close(policy.score_ref_policy(given, start), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    with start(model) as frozen:  # FSDP1 drops gradients of what does not ask for any
        assert trained and [name for name, parameter in frozen.named_parameters() if parameter.requires_grad] == trained
    logprobs = policy.score(given)[0]
    assert (logprobs - before).abs().max() > 0.01
    assert set(gradients(model, logprobs)) == {name for name, _ in model.named_parameters() if "lora" in name}
