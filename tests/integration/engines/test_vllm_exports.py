"""An exported folder generates and stops under vLLM as it does under transformers.

MENTOR_PL_VLLM_PYTHON names an interpreter that has vLLM (scripts/vllm_server.sh makes one); without it nothing here runs.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.messages import Message
from mentor_pl.students.export import export_student
from mentor_pl.students.full import FullStudent

PYTHON = os.environ.get("MENTOR_PL_VLLM_PYTHON")
MAX_TOKENS = 48
QUESTIONS = ("What is 2 + 3?", "What is 17 * 23?", "Hello.")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PYTHON, reason="MENTOR_PL_VLLM_PYTHON is not set"),
]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "initializer_range": 0.4,
    "max_position_embeddings": 512,
}


def _student(family: str) -> PreTrainedModel:
    """Return the embedded student, or a model of random weights that speaks its vocabulary."""
    embedded = FullStudent("embedded:student").load_model()
    if family == "embedded":
        return embedded
    torch.manual_seed(0)
    sizes = {**SIZES, "vocab_size": embedded.config.vocab_size}
    if family == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=True)).eval()
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, sliding_window=32, query_pre_attn_scalar=32)).eval()


def _by_transformers(folder: Path, prompts: list[list[int]]) -> list[dict[str, Any]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    found: list[dict[str, Any]] = []
    for ids in prompts:
        out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=MAX_TOKENS)[0, len(ids) :].tolist()
        found.append({"ids": out, "reason": "stop" if out[-1] in ends else "length"})
    return found


@pytest.mark.parametrize("family", ["embedded", "qwen3", "gemma3"])
def test_an_exported_student_speaks_and_stops_as_trained(family: str, tmp_path: Path) -> None:
    tokenizer = FullStudent("embedded:student").load_tokenizer()
    folder = tmp_path / "exported"
    export_student(_student(family), tokenizer, folder)
    protocol = ChatProtocol(AutoTokenizer.from_pretrained(folder))
    prompts = [list(protocol.prompt_ids([Message(role="user", content=text)], ())) for text in QUESTIONS]
    assert PYTHON
    run = subprocess.run(
        [PYTHON, str(Path(__file__).with_name("vllm_offline.py")), str(folder)],
        input=json.dumps({"prompts": prompts, "max_tokens": MAX_TOKENS}),
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (answer,) = [line for line in run.stdout.splitlines() if line.startswith('{"completions"')]
    theirs = json.loads(answer)
    ours = _by_transformers(folder, prompts)
    assert theirs["completions"] == ours
    assert theirs["rendered"] == prompts[0]
    if family == "embedded":
        assert {completion["reason"] for completion in ours} == {"stop"}
        assert all(completion["ids"][-1] in protocol.stop_token_ids for completion in ours)
