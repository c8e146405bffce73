"""Tiny random models of the supported families, and the exact log-probabilities they give."""

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

VOCAB = 97
SHAPE = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=256,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
FAMILIES = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "llama3-rope": lambda: LlamaConfig(
        **SHAPE,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=7),
    "qwen2": lambda: Qwen2Config(**{k: v for k, v in SHAPE.items() if k != "head_dim"}),
    "qwen3": lambda: Qwen3Config(**{**SHAPE, "head_dim": 16}),
    "gemma": lambda: GemmaConfig(**{**SHAPE, "num_key_value_heads": 1}),
    "gemma2": lambda: Gemma2Config(
        **SHAPE, sliding_window=7, query_pre_attn_scalar=16, attn_logit_softcapping=1.0, final_logit_softcapping=2.0
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **SHAPE,
        sliding_window=7,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        query_pre_attn_scalar=16,
    ),
}
MAMBA2 = pytest.param(
    "mamba2",
    marks=pytest.mark.skipif(
        Version(transformers.__version__) < Version("5.23"),
        reason="Mamba 2 without its kernels gives other gradients and states in transformers 5.17",
    ),
)


def tiny_model(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model whose distributions are far from uniform, so that a wrong mask or position shows."""
    torch.manual_seed(len(family))
    # transformers 5.17 would take sdpa for Gemma 2, which leaves its soft cap out
    attention = "eager" if family == "gemma2" else None
    model = AutoModelForCausalLM.from_config(FAMILIES[family](), dtype=dtype, attn_implementation=attention)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.mul_(5.0)
    return model.train()


@torch.no_grad()
def full_forward_logprobs(model: torch.nn.Module, token_ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probability of each token but the first, `[L - 1]`, by one plain forward of the whole conversation."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([token_ids], device=device)).logits[0, :-1].float() / temperature
    model.train(training)
    return logits.log_softmax(-1).gather(1, torch.tensor(token_ids[1:], device=device)[:, None])[:, 0]
