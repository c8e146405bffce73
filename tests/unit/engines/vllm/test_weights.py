"""What a vLLM server is given to read."""

import importlib.util
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from mentor_pl.causal_model import vocab_size
from mentor_pl.engines.vllm.weights import write_weights
from mentor_pl.errors import EngineError
from tests.unit.engines.models import VOCAB, tiny_model

TIED, UNTIED = "llama3-rope", "llama"
PROMPT = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.parametrize("family", [TIED, UNTIED])
def test_a_whole_model_has_a_head_of_its_own(family, tmp_path):
    """A server of an untied copy loads the head by its name; and the folder is an ordinary one."""
    model = tiny_model(family).eval()
    write_weights(model, tmp_path / "sent")
    weights = load_file(tmp_path / "sent/model.safetensors")
    assert torch.equal(weights["lm_head.weight"], model.get_output_embeddings().weight)
    assert torch.equal(weights["model.embed_tokens.weight"], model.get_input_embeddings().weight)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "sent").eval()
    assert torch.equal(again(PROMPT).logits, model(PROMPT).logits)


def test_of_an_adapted_model_only_the_adapter_is_written(tmp_path):
    model = get_peft_model(
        tiny_model(TIED), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    )
    write_weights(model, tmp_path / "sent")
    assert {file.name for file in (tmp_path / "sent").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert not (tmp_path / "sent/model.safetensors").exists()
    weights = load_file(tmp_path / "sent/adapter_model.safetensors")
    assert len(weights) == 3 * 2 * 2  # layers, modules, factors
    assert vocab_size(model) == VOCAB


def test_a_server_of_another_user_may_read(tmp_path):
    write_weights(tiny_model(TIED), tmp_path / "sent")
    assert {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "sent").iterdir()} == {"0o644"}


def test_other_models_are_refused(tmp_path):
    with pytest.raises(EngineError, match="the student is a Linear; VLLMEngine sends transformers models"):
        write_weights(nn.Linear(2, 2), tmp_path / "sent")


def test_the_untied_copy_computes_the_same(tmp_path):
    script = Path(__file__).parents[4] / "scripts/untie_embeddings.py"
    spec = importlib.util.spec_from_file_location("untie_embeddings", script)
    untie = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(untie)
    for family in (TIED, UNTIED):
        tiny_model(family).save_pretrained(tmp_path / family)
    assert not untie.untie(tmp_path / UNTIED, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert untie.untie(tmp_path / TIED, tmp_path / "copy")
    assert untie.untie(tmp_path / TIED, tmp_path / "copy")  # as at every start of the server
    names = {name for file in (tmp_path / "copy").glob("*.safetensors") for name in load_file(file)}
    assert names == {*load_file(tmp_path / TIED / "model.safetensors"), "lm_head.weight"}
    head = load_file(tmp_path / "copy/head.safetensors")["lm_head.weight"]
    assert torch.equal(head, tiny_model(TIED).get_input_embeddings().weight)
    assert '"tie_word_embeddings": false' in (tmp_path / "copy/config.json").read_text()
