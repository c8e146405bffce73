"""Tiny models of random weights, one for each architecture that is measured: to try an engine, a loader or a loss on all of them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHAPE: dict[str, Any] = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=4096,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
_HEADS = dict(head_dim=8)
_SLIDING = dict(sliding_window=24, layer_types=["sliding_attention", "full_attention"] * 2)
_LINEAR = dict(
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    layer_types=["linear_attention", "full_attention"] * 2,
)
_EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
_MAMBA = dict(
    mamba_d_state=8,
    mamba_n_heads=4,
    mamba_d_head=16,
    mamba_n_groups=1,
    mamba_d_conv=4,
    mamba_expand=2,
    mamba_chunk_size=16,
)

FAMILIES: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "llama": {},
        "mistral": dict(sliding_window=24),
        "qwen2": {},
        "qwen3": _HEADS,
        "gemma": _HEADS,
        "gemma2": dict(
            **_HEADS,
            sliding_window=24,
            query_pre_attn_scalar=8,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
        ),
        "gemma3_text": dict(**_HEADS, **_SLIDING, query_pre_attn_scalar=8),
        "gemma4_text": dict(
            **_HEADS,
            **_SLIDING,
            global_head_dim=16,
            num_kv_shared_layers=1,
            hidden_size_per_layer_input=8,
            vocab_size_per_layer_input=97,
        ),
        "cohere2": _SLIDING,
        "deepseek_v3": dict(
            num_key_value_heads=4,
            q_lora_rank=16,
            kv_lora_rank=8,
            qk_rope_head_dim=4,
            qk_nope_head_dim=8,
            v_head_dim=8,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=1,
            topk_group=1,
            n_shared_experts=1,
            moe_intermediate_size=16,
            first_k_dense_replace=1,
        ),
        "exaone4": _SLIDING,
        "falcon_h1": dict(**_HEADS, **_MAMBA, mamba_d_ssm=64),
        "glm4": _HEADS,
        "gpt_oss": dict(
            **_HEADS,
            **_SLIDING,
            num_local_experts=4,
            num_experts_per_tok=2,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        ),
        "granite": dict(
            logits_scaling=2.0, embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3
        ),
        "granitemoehybrid": dict(
            **_MAMBA,
            layer_types=["mamba", "attention"] * 2,
            num_local_experts=4,
            num_experts_per_tok=2,
            shared_intermediate_size=16,
        ),
        "lfm2": dict(layer_types=["conv", "full_attention"] * 2, block_ff_dim=48, conv_L_cache=3),
        "mamba2": dict(state_size=8, num_heads=4, head_dim=16, n_groups=1, chunk_size=16, expand=2),
        "nemotron_h": dict(
            mamba_num_heads=4,
            mamba_head_dim=16,
            ssm_state_size=8,
            n_groups=1,
            chunk_size=16,
            head_dim=8,
            layers_block_type=["mamba", "attention", "mamba", "mlp"],
        ),
        "olmo2": {},
        "olmo3": _SLIDING,
        "phi3": {},
        "qwen3_5_text": dict(**_HEADS, **_LINEAR),
        "qwen3_moe": dict(**_HEADS, **_EXPERTS),
        "qwen3_next": dict(**_HEADS, **_LINEAR, **_EXPERTS, shared_expert_intermediate_size=16),
        "smollm3": {},
        "stablelm": {},
        "starcoder2": dict(sliding_window=24),
    }
)
"""What the config of each family has beside or in place of the common shape, by `model_type`. Windows are shorter than a conversation."""


def tiny_random_model(family: str, *, vocab_size: int = 97, seed: int = 0) -> PreTrainedModel:
    """Return a model of four layers in float32, with distributions far from uniform, so that a wrong mask or position shows.

    Args:
        family: One of `FAMILIES`.
        vocab_size: Rows of its embedding.
        seed: Of its weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {**_SHAPE, **FAMILIES[family]}
    settings.update({name: vocab_size for name in settings if name.startswith("vocab_size")})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias") or "norm" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
                elif parameter.dim() >= 2:
                    parameter.mul_(4.0)
    return model.train()
