from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from mentor_pl.errors import StudentError
from mentor_pl.students.export import export_student
from mentor_pl.students.full import FullStudent
from mentor_pl.students.lora import LoraStudent
from mentor_pl.students.nf4 import Nf4LoraStudent
from mentor_pl.training.fsdp2 import gathered

MakeFolder = Callable[..., Path]
PROMPT = [2, 40, 90, 7, 100, 33]


def greedy(model: nn.Module) -> list[int]:
    model.eval()
    ids = torch.tensor([PROMPT], device=next(model.parameters()).device)
    with torch.no_grad():
        for _ in range(24):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    return ids[0, len(PROMPT) :].tolist()


def trained(loader: FullStudent | LoraStudent | Nf4LoraStudent) -> PreTrainedModel:
    """A few steps at a high rate, so that its greedy tokens are no longer those of the start."""
    model = loader.load_model()
    start = greedy(model)
    model.train()
    ids = torch.randint(3, 259, (2, 32), generator=torch.Generator().manual_seed(3)).to(model.device)
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(5):
        optimiser.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
    assert greedy(model) != start
    return model


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # the second ties its embeddings and has biases
@pytest.mark.parametrize("loader", [FullStudent, LoraStudent])
def test_exported_folder_speaks_as_the_student(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str, loader: type[FullStudent]
) -> None:
    model = trained(loader(str(make_folder(family))))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    export_student(model, tokenizer, tmp_path / "out", card="# Ours\n")
    assert greedy(AutoModelForCausalLM.from_pretrained(tmp_path / "out")) == greedy(model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert (tmp_path / "out" / "README.md").read_text() == "# Ours\n"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_exported_4_bit_student_is_its_dequantised_base_plus_adapter(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, family: str
) -> None:
    model = trained(Nf4LoraStudent(str(make_folder(family))))
    export_student(model, tokenizer, tmp_path / "merged")
    export_student(model, tokenizer, tmp_path / "adapter", merge=False)
    assert any(isinstance(layer, Linear4bit) for layer in model.modules())  # still the student it was

    dequantised = Nf4LoraStudent(str(make_folder(family))).load_model().unload().dequantize()  # type: ignore[operator]
    reference = PeftModel.from_pretrained(dequantised, str(tmp_path / "adapter")).to(dequantised.device)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not hasattr(merged.config, "quantization_config")
    assert greedy(merged) == greedy(reference) == greedy(model)
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        expected = reference(input_ids=ids.to(reference.device)).logits.cpu()
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)


def test_adapter_alone(make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    folder = make_folder()
    model = trained(LoraStudent(str(folder), rank=4))
    export_student(model, tokenizer, tmp_path / "out", merge=False)
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= files
    assert "model.safetensors" not in files
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (str(folder), 4)
    base = AutoModelForCausalLM.from_pretrained(folder)
    assert greedy(PeftModel.from_pretrained(base, str(tmp_path / "out"))) == greedy(model)


def test_merging_by_hand(make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Rank 1, alpha 2, A all ones, B all ones on a weight of zeros: every merged weight is 2 * 1 * 1."""
    model = LoraStudent(str(make_folder()), rank=1, alpha=2.0, target_modules=["q_proj"]).load_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name:
                weight.fill_(0.0 if "base_layer" in name else 1.0)
    export_student(model, tokenizer, tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for layer in merged.model.layers:
        assert torch.equal(layer.self_attn.q_proj.weight, torch.full((64, 64), 2.0))


def test_bfloat16_swallows_what_float32_keeps(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Near 1 bfloat16 has steps of 2^-7: a change of 2^-10 is rounded away."""
    loader = LoraStudent(str(make_folder()), rank=1, alpha=1.0, target_modules=["q_proj"], dtype="bfloat16")
    model = loader.load_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name:
                weight.fill_(2.0**-10 if "lora_B" in name else 1.0)
    export_student(model, tokenizer, tmp_path / "own")
    export_student(model, tokenizer, tmp_path / "wide", dtype=torch.float32)
    own = AutoModelForCausalLM.from_pretrained(tmp_path / "own").model.layers[0].self_attn.q_proj.weight
    wide = AutoModelForCausalLM.from_pretrained(tmp_path / "wide").model.layers[0].self_attn.q_proj.weight
    assert own.dtype == torch.bfloat16 and own[0, 0].item() == 1.0
    assert wide.dtype == torch.float32 and wide[0, 0].item() == 1.0 + 2.0**-10


def test_adapter_on_a_tied_head_unties_it(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    loader = LoraStudent(str(make_folder("qwen2")), target_modules=["lm_head"])
    model = loader.load_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    export_student(model, tokenizer, tmp_path / "out")
    assert greedy(AutoModelForCausalLM.from_pretrained(tmp_path / "out")) == greedy(model)


def test_tokenizer_template_and_stop_tokens_travel(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = FullStudent(str(make_folder())).load_model()
    model.generation_config.eos_token_id = 7
    export_student(model, tokenizer, tmp_path / "out")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out").generation_config
    assert (exported.eos_token_id, exported.pad_token_id) == ([7, 2], 0)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == tokenizer.chat_template
    FullStudent(str(tmp_path / "out")).load_tokenizer()  # may be a student again


def test_an_earlier_export_is_replaced_and_anything_else_is_not(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = FullStudent(str(make_folder())).load_model()
    out = tmp_path / "out"
    export_student(model, tokenizer, out, card="old")
    export_student(model, tokenizer, out)
    assert not (out / "README.md").exists()
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.txt").write_text("x")
    with pytest.raises(StudentError) as refused:
        export_student(model, tokenizer, thesis)
    assert str(refused.value) == (
        f"export to {str(thesis)!r}: it exists and is no model folder; remove it or choose another output"
    )
    assert (thesis / "chapter1.txt").exists()


def test_a_failed_export_leaves_the_earlier_one(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = FullStudent(str(make_folder())).load_model()
    export_student(model, tokenizer, tmp_path / "out", card="earlier")
    with pytest.raises(StudentError, match="the student has no adapter to be written alone; export it merged"):
        export_student(model, tokenizer, tmp_path / "out", merge=False)
    assert (tmp_path / "out" / "README.md").read_text() == "earlier"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_full_disk_is_said_and_leaves_the_earlier_export(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = FullStudent(str(make_folder())).load_model()
    export_student(model, tokenizer, tmp_path / "out", card="earlier")
    largest, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # a file that cannot grow, as on a full disk
    try:
        with pytest.raises(StudentError, match="the weights cannot be written .*; make room there"):
            export_student(model, tokenizer, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    assert (tmp_path / "out" / "README.md").read_text() == "earlier"


@pytest.mark.parametrize(("loader", "merge"), [(FullStudent, True), (LoraStudent, True), (LoraStudent, False)])
def test_gathered_fsdp2_student(
    make_folder: MakeFolder, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, loader: type[FullStudent], merge: bool
) -> None:
    """FSDP2 shards again whenever a state dict is asked for, and rank 0 alone must not do that."""
    folder = make_folder()
    model = trained(loader(str(folder)))
    expected = greedy(model)
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        mesh = init_device_mesh("cpu", (1,))
        for layer in [*base.model.layers, base]:
            fully_shard(layer, mesh=mesh)
        with gathered(model):
            export_student(model, tokenizer, tmp_path / "out", merge=merge)
            assert not any(isinstance(weight, DTensor) for weight in model.parameters())  # gathered still
    finally:
        distributed.destroy_process_group()
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out" if merge else folder)
    if not merge:
        exported = PeftModel.from_pretrained(exported, str(tmp_path / "out"))
    assert greedy(exported) == expected
