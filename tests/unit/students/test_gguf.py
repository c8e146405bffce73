from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from mentor_pl.errors import StudentError
from mentor_pl.students import gguf_conversion
from mentor_pl.students.gguf import GgufStudent
from mentor_pl.students.gguf_conversion import converted_gguf
from mentor_pl.students.lora import LoraStudent

gguf = pytest.importorskip("gguf")

MakeFolder = Callable[..., Path]
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gguf_conversion, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mentor-pl" / "gguf"


@pytest.fixture
def gguf_folder(make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A tiny Llama in Q8_0, as llama.cpp's converter would write it."""
    model = LlamaForCausalLM.from_pretrained(make_folder())
    config = model.config
    folder = tmp_path / "gguf"
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(list(range(config.vocab_size)))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t.startswith("<|") else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    for name, weight in model.state_dict().items():
        array = weight.float().numpy()
        owner = name.removesuffix(".weight")
        if owner.startswith("model.layers."):
            _, _, layer, inner = owner.split(".", 3)
            heads = {
                "self_attn.q_proj": config.num_attention_heads,
                "self_attn.k_proj": config.num_key_value_heads,
            }.get(inner)
            if heads:  # llama.cpp interleaves the two halves of each head's rotary dimensions
                array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
            target = f"blk.{layer}.{NAMES[inner]}.weight"
        else:
            target = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}[
                owner
            ] + ".weight"
        if array.ndim == 2:
            quantised = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(target, quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(target, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def test_weights_are_the_dequantised_ones(gguf_folder: Path, make_folder: MakeFolder) -> None:
    student = GgufStudent(str(gguf_folder), "tiny.gguf", chat_template="hermes", pad_token="<|endoftext|>")
    model = student.load_model()
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert not hasattr(model.config, "quantization_config")
    original = AutoModelForCausalLM.from_pretrained(make_folder())
    for (name, weight), expected in zip(model.named_parameters(), original.parameters(), strict=True):
        # Q8_0: blocks of 32 weights in steps of their largest magnitude / 127, rounded; the step itself is a float16.
        step = expected.abs().max() / 127
        assert (weight - expected).abs().max() <= 0.51 * step, name
    tokenizer = student.load_tokenizer()
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.decode(tokenizer.encode("Hi there<|im_end|>", add_special_tokens=False)) == "Hi there<|im_end|>"


def test_conversion_happens_once(gguf_folder: Path, cache: Path) -> None:
    first = converted_gguf(str(gguf_folder), "tiny.gguf")
    made = (first / "model.safetensors").stat().st_mtime_ns
    assert converted_gguf(str(gguf_folder), "tiny.gguf") == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
    assert [entry.name for entry in cache.iterdir() if entry.is_dir()] == [first.name]
    assert first.name.startswith("tiny-")
    (gguf_folder / "tiny.gguf").touch()
    assert converted_gguf(str(gguf_folder), "tiny.gguf") != first


def test_adapter_on_a_gguf_file(gguf_folder: Path) -> None:
    model = LoraStudent(str(gguf_folder), gguf_file="tiny.gguf", rank=2).load_model()
    assert sum(weight.requires_grad for weight in model.parameters()) == 2 * 7 * 2


def test_missing_file(gguf_folder: Path) -> None:
    with pytest.raises(StudentError) as refused:
        GgufStudent(str(gguf_folder), "large.gguf").load_model()
    assert str(refused.value) == (
        f"student {str(gguf_folder)!r}: the folder holds no file 'large.gguf'; set model.student's `gguf_file` to one of its GGUF "
        "files: tiny.gguf"
    )


def test_broken_file_leaves_nothing_behind(gguf_folder: Path, cache: Path) -> None:
    (gguf_folder / "broken.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(StudentError, match=r"'broken.gguf' cannot be read as GGUF"):
        GgufStudent(str(gguf_folder), "broken.gguf").load_tokenizer()
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []


def test_missing_package(gguf_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_conversion, "find_spec", lambda name: None)
    with pytest.raises(StudentError, match=r"takes the package gguf; pip install 'mentor-pl\[gguf\]'"):
        GgufStudent(str(gguf_folder), "tiny.gguf").load_tokenizer()
