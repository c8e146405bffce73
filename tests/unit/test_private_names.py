"""Names that others may change without notice and that this program leans on: each is looked up, and what it is for is said.

A test that fails here after an upgrade names the one place of ours that has to change.
"""

import importlib
import inspect

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from tests.unit.engines.models import FAMILIES, tiny_model

NAMES = {
    "torch.nn:Module._non_persistent_buffers_set": "causal_model.model_state: which buffers a checkpoint leaves out",
    "torch.distributed.fsdp._common_utils:clean_tensor_name": "training/sharded_checkpoints: names without FSDP1's wrappers",
    "torch.distributed.checkpoint.default_planner:_EmptyStateDictLoadPlanner": "training/checkpoint_io: reads all there is",
    "torch.distributed.checkpoint.state_dict_loader:_load_state_dict": "training/checkpoint_io: reads without process group",
    "lightning.pytorch.core.optimizer:LightningOptimizer.optimizer": "training/sharded_checkpoints: what a wrapper wraps",
    "lightning.pytorch.strategies:FSDPStrategy._setup_model": "training/fsdp1: wraps the student itself",
    "lightning.pytorch.strategies:FSDPStrategy._precision_plugin": "training/fsdp1: precision without Lightning's casts",
    "lightning.pytorch.strategies:ModelParallelStrategy._data_parallel_size": "training/fsdp2: ranks of the mesh",
    "lightning.pytorch.strategies:ModelParallelStrategy._save_distributed_checkpoint": "training/sharded_checkpoints",
    "lightning.pytorch.cli:LightningCLI._parse_ckpt_path": "cli/training: a checkpoint must not override settings",
    "lightning.pytorch.loops.training_epoch_loop:_TrainingEpochLoop._batches_that_stepped": "training/run_position: steps in the log",
    "lightning.pytorch.trainer.connectors.signal_connector:_SignalConnector.register_signal_handlers": (
        "callbacks/graceful_stop: installed before a run starts, so that ours take their place"
    ),
    "transformers:PreTrainedModel.set_attn_implementation": "engines/attention_interface: public, since 4.48",
    "transformers.modeling_utils:ALL_ATTENTION_FUNCTIONS": "engines/attention_interface: the function without our keyword",
    "transformers.masking_utils:ALL_MASK_ATTENTION_FUNCTIONS": "engines/attention_interface: its mask",
    "transformers.models.llama.modeling_llama:eager_attention_forward": "engines/attention_interface: eager attention",
    "transformers.models.llama.modeling_llama:LlamaPreTrainedModel._no_split_modules": "training/fsdp2: what is sharded",
    "transformers:LlamaPreTrainedModel._supports_attention_backend": "engines/attention_interface: may a model be packed",
    "transformers.cache_utils:LinearAttentionLayer.conv_states": "engines/cascade/recurrent_states: states by row",
    "transformers.cache_utils:LinearAttentionLayer.recurrent_states": "engines/cascade/recurrent_states: states by row",
    "transformers.cache_utils:LinearAttentionLayer.number_of_states": "engines/cascade/recurrent_states: states by row",
    "bitsandbytes.functional:dequantize_4bit": "students/export: exact weights of a 4-bit base",
}


def _look_up(name: str) -> object:
    module, _, path = name.partition(":")
    found: object = importlib.import_module(module)
    for part in path.split("."):
        if isinstance(found, type) and not hasattr(found, part):
            # set in the constructor: its source names it
            assert any(part in inspect.getsource(kind) for kind in found.__mro__[:-1]), "no class of it sets that"
            return None
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", list(NAMES))
def test_a_private_name_is_still_there(name: str) -> None:
    try:
        _look_up(name)
    except (ImportError, AttributeError, AssertionError) as gone:
        pytest.fail(f"{name} is gone or moved ({gone}); it was for {NAMES[name]}")


@pytest.mark.parametrize(
    ("operator", "schema"),
    [
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            "(Tensor query, Tensor key, Tensor value, float dropout_p=0., bool is_causal=False, *, "
            "Tensor? attn_mask=None, float? scale=None) -> (Tensor output, Tensor logsumexp)",
        ),
        (
            "_scaled_dot_product_flash_attention_for_cpu_backward",
            "(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, float dropout_p, "
            "bool is_causal, *, Tensor? attn_mask=None, float? scale=None) -> (Tensor grad_query, Tensor grad_key, Tensor grad_value)",
        ),
        (
            "_scaled_dot_product_efficient_attention",
            "(Tensor query, Tensor key, Tensor value, Tensor? attn_bias, bool compute_log_sumexp, float dropout_p=0., "
            "bool is_causal=False, *, float? scale=None) -> "
            "(Tensor output, Tensor log_sumexp, Tensor philox_seed, Tensor philox_offset)",
        ),
    ],
)
def test_attention_gives_its_log_sum_exp(operator: str, schema: str) -> None:
    """For engines/cascade/partial_attention: parts of a softmax are put together by it."""
    found = str(getattr(torch.ops.aten, operator).default._schema)
    assert found.split("(", 1)[1] == schema[1:]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
def test_packed_linear_layers_of_onednn() -> None:
    """For engines/cascade/projections: weights kept in the layout that oneDNN multiplies fastest."""
    assert isinstance(torch.ops.mkldnn._is_mkldnn_bf16_supported(), bool)
    weight, bias, inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, 0.0]), torch.tensor([[1.0, 1.0]])
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, 64)
    assert torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "").tolist() == [[3.5, 7.0]]


def test_a_quantised_layer_can_be_kept_from_repacking() -> None:
    """For students/nf4: a packed layout without a gradient to its input would train wrongly, and say nothing."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    assert hasattr(bitsandbytes.nn.Linear4bit(4, 4), "support_avx512bf16_for_cpu")


def test_parts_of_a_lora_layer() -> None:
    """For students/export: what an adapter adds to a weight."""
    from peft.tuners.lora import Linear, LoraConfig

    layer = Linear(nn.Linear(2, 2), "default", LoraConfig(init_lora_weights=False, r=1), r=1)
    assert layer.active_adapters == ["default"] and "default" in layer.scaling
    assert layer.merged_adapters == [] and layer.use_dora == {"default": False}
    assert layer.get_delta_weight("default").shape == (2, 2)


def test_a_forward_hands_its_keywords_down_to_the_attention_function() -> None:
    """For engines/attention_interface: also where gradient checkpointing runs the layers again."""
    from mentor_pl.engines.attention_interface import no_mask, own_attention, take_attend_keyword

    model = tiny_model("llama")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert take_attend_keyword(model) and take_attend_keyword(model)
    assert own_attention(model) == "sdpa"
    layers: list[int] = []

    def attend(module, query, key, value, **options):
        layers.append(module.layer_idx)
        return query.transpose(1, 2)

    ids = torch.tensor([[1, 2, 3]])
    logits = model(input_ids=ids, attention_mask=no_mask(ids), use_cache=False, attend=attend).logits
    assert layers == [0, 1, 2]
    logits.sum().backward()
    assert sorted(layers[3:]) == [0, 1, 2]


def _weights(family: str) -> tuple[str, ...]:
    heads = ("q_norm", "k_norm") if family in ("qwen3", "gemma3") else ()
    feedforward = ("pre_feedforward_layernorm", "post_feedforward_layernorm") if family in ("gemma2", "gemma3") else ()
    return (
        *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", *heads)),
        *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
        *("input_layernorm", "post_attention_layernorm", *feedforward),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_module_names_of_a_decoder_written_by_hand(family: str) -> None:
    """For engines/cascade/decoder: a weight under another name would be passed over."""
    body = tiny_model(family).get_decoder()
    layer = body.layers[0]
    weights = {name.rpartition(".")[0] for name, _ in layer.named_parameters()}
    assert weights == set(_weights(family))
    assert isinstance(layer.self_attn.head_dim, int) and isinstance(layer.self_attn.scaling, float)
    assert callable(layer.mlp.act_fn) and callable(body.rotary_emb)
    assert set(dict(body.named_children())) == {"embed_tokens", "layers", "norm", "rotary_emb"}


def test_generate_fills_from_the_models_own_generation_config() -> None:
    """For engines/hf_generate, which puts its own in its place meanwhile: a penalty of the model's would be at work else."""
    model = tiny_model("llama")
    ids = torch.tensor([[5, 6, 7]])
    wanted = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    plain = model.generate(ids, generation_config=GenerationConfig(**wanted))
    model.generation_config = GenerationConfig(**wanted, repetition_penalty=50.0)
    assert model.generate(ids, generation_config=GenerationConfig(**wanted)).tolist() != plain.tolist()
    model.generation_config = GenerationConfig(**wanted)
    assert model.generate(ids, generation_config=GenerationConfig(**wanted)).tolist() == plain.tolist()


def test_a_lora_layer_can_be_scaled_for_a_while() -> None:
    """For engines/vllm/probe: what a server computes to which an adapter was sent twice."""
    from peft.tuners.lora import Linear, LoraConfig

    layer = Linear(nn.Linear(2, 2), "default", LoraConfig(init_lora_weights=False, r=1), r=1)
    inputs = torch.ones(1, 2)
    once = layer(inputs) - layer.base_layer(inputs)
    layer.scale_layer(2.0)
    twice = layer(inputs) - layer.base_layer(inputs)
    layer.unscale_layer(2.0)
    assert torch.allclose(twice, 2 * once) and once.abs().sum() > 0
    assert torch.allclose(layer(inputs) - layer.base_layer(inputs), once)
