from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.plugins.precision import FSDPPrecision
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mentor_pl.engines.vllm.weights import write_weights
from mentor_pl.errors import ConfigError
from mentor_pl.training.fsdp1 import FSDP1Strategy
from mentor_pl.training.fsdp2 import decoder_layers, gathered, shard
from mentor_pl.training.sharded_checkpoints import trained_names
from tests.unit.engines.models import tiny_model

# One rank does not shard, and torch says so.
pytestmark = pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`")


@pytest.fixture
def strategy(tmp_path: Path) -> Iterator[FSDP1Strategy]:
    """Of one rank: there is nothing to gather, but all wrappers are there. More ranks are tests/integration's."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        strategy = FSDP1Strategy()
        strategy.parallel_devices, strategy.cluster_environment = [torch.device("cpu")], LightningEnvironment()
        strategy.precision_plugin = FSDPPrecision("32-true")  # what the Trainer hands over
        yield strategy
    finally:
        distributed.destroy_process_group()


@pytest.fixture(params=["full", "lora"])
def student(request: pytest.FixtureRequest) -> nn.Module:
    model = tiny_model("llama")
    if request.param == "full":
        return model
    return get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)).train()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 2, 3, 4]]), use_cache=False).logits


def wrappers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, FullyShardedDataParallel)]


def test_the_plain_model_comes_out_for_a_while(strategy: FSDP1Strategy, student: nn.Module, tmp_path: Path) -> None:
    names, before = trained_names(student), logits(student)
    model = strategy.wrap(student, decoder_layers(student))
    assert trained_names(model) == names
    wrapped = wrappers(model)
    # The whole, each layer and, with an adapter, the two matrices of each.
    assert len(wrapped) == 1 + student.config.num_hidden_layers * (3 if "lora" in str(names) else 1)  # type: ignore[union-attr, operator]
    with gathered(model) as plain:
        assert plain is student and wrappers(plain) == []
        assert torch.equal(logits(plain), before)
        write_weights(plain, tmp_path / "weights")
    [file] = (tmp_path / "weights").glob("*.safetensors")
    assert not [name for name in load_file(file) if "fsdp" in name]
    assert wrappers(model) == wrapped
    assert torch.equal(logits(model), before)


def test_one_rank_has_nothing_to_wrap(strategy: FSDP1Strategy, student: nn.Module) -> None:
    assert shard(student, strategy) is student


@pytest.mark.parametrize("wrapped", [True, False])
def test_gradients_are_clipped_by_their_norm(strategy: FSDP1Strategy, wrapped: bool) -> None:
    model = nn.Linear(2, 1, bias=False)
    strategy.model = strategy.wrap(model, []) if wrapped else model
    strategy.model(torch.tensor([[3.0, 4.0]])).sum().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    strategy.precision_plugin.clip_gradients(optimizer, 1.0)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient, torch.tensor([0.6, 0.8]))  # (3, 4) / 5


def test_mixed_precision_is_autocast_and_leaves_batches_alone(strategy: FSDP1Strategy) -> None:
    strategy.precision_plugin = FSDPPrecision("bf16-mixed")
    batch = torch.ones(2, 2)
    assert strategy.precision_plugin.convert_input(batch) is batch
    with strategy.precision_plugin.forward_context():
        assert (batch @ batch).dtype == torch.bfloat16


def test_a_layer_of_several_types_is_refused(strategy: FSDP1Strategy) -> None:
    model = tiny_model("llama")
    model.model.layers[1].self_attn.q_proj.bfloat16()
    with pytest.raises(ConfigError, match=r"of each LlamaDecoderLayer .* types bfloat16, float32; .*`quant_storage`"):
        strategy.wrap(model, decoder_layers(model))
