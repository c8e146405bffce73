"""The probe against servers that are played by copies of a model, into which each fault is really made."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.testing import assert_close

from mentor_pl.engines.vllm.probe import Probe, Reading, adapter_doubled, probe_text, text_logprobs
from mentor_pl.errors import EngineError
from tests.unit.engines.models import VOCAB, full_forward_logprobs, tiny_model

TEXT = probe_text(VOCAB)
MERGED = "those with the adapter: it is merged into the served model"
NEVER = "those without the adapter: it was never added"
TWICE = "those with the adapter added twice"


def adapted(std: float) -> PeftModel:
    """The tiny model with an adapter of which both factors are random."""
    model = get_peft_model(
        tiny_model("llama"), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    )
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=std if "lora_B" in name else 0.1)
    return model


def update(model: torch.nn.Module, std: float) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn(parameter.shape) * std)


def without(model: PeftModel) -> torch.Tensor:
    with model.disable_adapter():
        return text_logprobs(model, TEXT)


def twice(model: PeftModel) -> torch.Tensor:
    with adapter_doubled(model):
        return text_logprobs(model, TEXT)


class Run:
    """A trainer, its probe, and a server played by `server`, which a test may change between syncs."""

    def __init__(self, trainer: torch.nn.Module) -> None:
        self.trainer, self.server = trainer, copy.deepcopy(trainer)
        self.probe = Probe("http://server", tolerance=0.3)
        self.version = 0

    def begin(self) -> None:
        right = text_logprobs(self.trainer, TEXT)
        base = Reading(weights="the start", trainer=without(self.trainer), server=without(self.server))
        self.probe.check(base, {MERGED: right})

    def sync(self) -> float:
        self.version += 1
        reading = Reading(
            weights=f"version {self.version}",
            trainer=text_logprobs(self.trainer, TEXT),
            server=text_logprobs(self.server, TEXT),
        )
        wrong = {}
        if isinstance(self.trainer, PeftModel):
            wrong = {NEVER: without(self.trainer), TWICE: twice(self.trainer)}
        return self.probe.check(reading, wrong)


def never_sent(server: PeftModel) -> None:
    for name, parameter in server.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()


def sent_twice(server: PeftModel) -> None:
    for name, parameter in server.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(2.0)


def merged_before(server: PeftModel) -> None:
    for layer in server.modules():
        if isinstance(layer, LoraLayer):
            layer.get_base_layer().weight.data += layer.get_delta_weight("default")


def layer_missing(server: PeftModel) -> None:
    for name, parameter in server.named_parameters():
        if "layers.1." in name and "lora_B" in name:
            parameter.data.zero_()


# from an adapter that has hardly left zero to one that changes log-probabilities by nats
@pytest.mark.parametrize("std", [1e-4, 1e-2, 0.3])
@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (never_sent, "agrees with those .*(the start: what was sent since did not arrive|never added)"),
        (sent_twice, "agrees with those with the adapter added twice"),
        (merged_before, "agrees with those with the adapter: it is merged into the served model"),
        (layer_missing, "part of them is missing or other"),
    ],
)
def test_a_fault_is_caught_at_the_first_sync(fault, named, std):
    run = Run(adapted(std))
    fault(run.server)
    with pytest.raises(EngineError, match=named):
        run.begin()
        run.sync()


@pytest.mark.parametrize("std", [1e-4, 1e-2])
def test_an_old_version_is_caught_at_the_first_sync(std):
    """The server holds the adapter of an earlier run's end, of the same size; the trainer resumed from a later one."""
    run = Run(adapted(std))
    update(run.trainer, std)
    with pytest.raises(EngineError, match="does not hold the weights of version 1: part of them is missing or other"):
        run.begin()
        run.sync()


@pytest.mark.parametrize("std", [1e-5, 1e-3])
@pytest.mark.parametrize("full", [False, True])
def test_a_server_that_stays_behind_is_caught_at_the_first_update(full, std):
    """However little the update moved: 1e-5 in a weight is what the first steps at a small learning rate do."""
    run = Run(tiny_model("llama") if full else adapted(1e-2))
    if not full:
        run.begin()
    run.sync()
    update(run.trainer, std)
    with pytest.raises(EngineError, match="agrees with those of version 1: what was sent since did not arrive"):
        run.sync()


@pytest.mark.parametrize("std", [0.0, 1e-6, 1e-4, 1e-2, 0.3])
def test_a_right_server_passes(std):
    run = Run(adapted(std))
    run.begin()
    assert run.sync() == 0.0
    for _ in range(3):
        update(run.trainer, std)
        run.server.load_state_dict(run.trainer.state_dict())
        assert run.sync() == 0.0


# Arithmetic of the server's own: bfloat16 deviates here by about 0.006 nats a token, much more than the smaller updates change.


@pytest.mark.parametrize("std", [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.3])
def test_a_right_server_in_bfloat16_passes(std):
    run = Run(adapted(std))
    run.server.to(torch.bfloat16)
    run.begin()
    for _ in range(5):
        assert 0.002 < run.sync() < 0.3
        update(run.trainer, std / 5)
        run.server.load_state_dict(run.trainer.state_dict())


@pytest.mark.parametrize("fault", [never_sent, sent_twice, layer_missing])
def test_a_fault_in_bfloat16_is_caught_at_the_first_sync(fault):
    run = Run(adapted(0.1))
    run.server.to(torch.bfloat16)
    fault(run.server)
    run.begin()
    with pytest.raises(EngineError):
        run.sync()


def test_small_updates_that_do_not_arrive_are_caught_once_they_add_up():
    """A stale server whose numbers also wander by themselves: undecided at first, and caught before it is off by thrice the noise."""
    run = Run(tiny_model("llama"))
    noise = torch.Generator().manual_seed(0)
    stale = text_logprobs(run.server, TEXT)

    def sync(server: torch.Tensor) -> None:
        run.version += 1
        said = server + 0.02 * torch.randn(server.shape, generator=noise, dtype=server.dtype)
        run.probe.check(
            Reading(weights=f"version {run.version}", trainer=text_logprobs(run.trainer, TEXT), server=said)
        )

    sync(stale)
    start = text_logprobs(run.trainer, TEXT)
    with pytest.raises(EngineError, match="is nearer to those of version 1: what was sent since did not arrive"):
        for _ in range(100):
            update(run.trainer, 3e-4)
            sync(stale)
    moved = float((text_logprobs(run.trainer, TEXT) - start).square().mean().sqrt())
    assert run.version > 3
    assert moved < 0.06


def test_another_model_is_beyond_the_tolerance():
    run = Run(tiny_model("llama"))
    update(run.server, 0.1)
    with pytest.raises(EngineError, match=r"off by .* \(probe_tolerance is 0.3\); it serves another model"):
        run.sync()


def test_not_a_number_is_beyond_the_tolerance():
    run = Run(tiny_model("llama"))
    next(run.server.parameters()).data.fill_(float("nan"))
    with pytest.raises(EngineError, match="off by nan"):
        run.sync()


def test_the_text_is_fixed_and_its_logprobs_are_those_of_a_full_forward():
    assert probe_text(VOCAB) == TEXT
    assert [len(row) for row in TEXT] == [128] * 4
    assert all(0 <= token < VOCAB for row in TEXT for token in row)
    model = tiny_model("qwen2")
    expected = torch.cat([full_forward_logprobs(model, list(row)) for row in TEXT]).double()
    assert_close(text_logprobs(model, TEXT), expected)
    assert model.training


def test_a_doubled_adapter_is_as_it_was_afterwards():
    model = adapted(0.1)
    before = text_logprobs(model, TEXT)
    assert (twice(model) - before).abs().max() > 0.1
    assert torch.equal(text_logprobs(model, TEXT), before)
