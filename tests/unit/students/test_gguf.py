from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mentor_pl.errors import StudentError
from mentor_pl.students import gguf_conversion
from mentor_pl.students.gguf import GgufStudent
from mentor_pl.students.gguf_conversion import converted_gguf, name_special_tokens
from mentor_pl.students.lora import LoraStudent

gguf_files = pytest.importorskip("tests.unit.students.gguf_files", exc_type=ImportError)

MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gguf_conversion, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mentor-pl" / "gguf"


@pytest.fixture
def gguf_folder(make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    """A tiny Llama as a GGUF file."""
    folder = tmp_path / "gguf"
    folder.mkdir()
    gguf_files.write_gguf(LlamaForCausalLM.from_pretrained(make_folder()), tokenizer, folder / "tiny.gguf")
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


def test_special_tokens_are_those_that_the_file_names(gguf_folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    name_special_tokens(tokenizer, gguf_folder / "tiny.gguf")
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.unk_token is None  # the file names none


def test_converted_student_ends_where_the_file_says(gguf_folder: Path) -> None:
    folder = converted_gguf(str(gguf_folder), "tiny.gguf")
    assert GenerationConfig.from_pretrained(folder).eos_token_id == 2
    assert AutoTokenizer.from_pretrained(folder).special_tokens_map == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
    }


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
