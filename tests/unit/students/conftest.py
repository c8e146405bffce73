from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from mentor_pl.students.chat_template import read_chat_template

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCAB_SIZE = len(SPECIAL) + 256 + 2


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Three special tokens, one token a byte, and two merges: transformers 5.17 misreads a GGUF file's list of one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIAL, *alphabet, "ab", "cd"])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b"), ("c", "d")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = read_chat_template("hermes")
    return fast


@pytest.fixture
def make_folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Path]:
    """Writes a tiny random student as an ordinary Hugging Face folder."""

    def make(family: str = "llama", **config: int | bool) -> Path:
        config_class, model_class = {
            "llama": (LlamaConfig, LlamaForCausalLM),
            "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        }[family]
        sizes = {
            "vocab_size": VOCAB_SIZE,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "tie_word_embeddings": family == "qwen2",
        }
        torch.manual_seed(0)
        folder = tmp_path / family
        model = model_class(config_class(**{**sizes, **config}))
        # Ten times the usual spread, so that greedy tokens depend on every layer and not on the embedding alone.
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "proj" in name and weight.dim() == 2:
                    weight.mul_(10)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make
