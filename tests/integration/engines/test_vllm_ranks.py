"""VLLMEngine under two ranks: one sends the weights, both sample, and a failed sync ends both."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from mentor_pl.engines.base import GenerationRequest, SamplingParams
from mentor_pl.engines.vllm.engine import VLLMEngine
from mentor_pl.errors import EngineError
from tests.unit.engines.models import tiny_model
from tests.unit.engines.vllm.stand_in_server import serving

pytestmark = pytest.mark.integration


def _rank(rank: int, folder: str, urls: list[str]) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    torch.set_num_threads(1)
    model, engine = tiny_model("llama3-rope"), VLLMEngine(urls)
    engine.sync(model, 3)
    with engine.session(SamplingParams(), ()) as session:
        session.submit([GenerationRequest(row=0, token_ids=(5 + rank, 6), max_new_tokens=2, seed=0)])
        [(_, completion)] = session.poll()
    outcome: dict[str, Any] = {"version": completion.policy_version, "error": ""}
    model.get_input_embeddings().weight.data.fill_(float("nan"))
    try:
        engine.sync(model, 4)
    except EngineError as error:
        outcome["error"] = str(error)
    torch.save(outcome, os.path.join(folder, f"{rank}.pt"))
    engine.close()
    dist.destroy_process_group()


def test_two_ranks(tmp_path: Path) -> None:
    tiny_model("llama3-rope").save_pretrained(tmp_path / "start")
    with serving(tmp_path / "start") as one, serving(tmp_path / "start") as other:
        multiprocessing.spawn(_rank, args=(str(tmp_path), [one.url, other.url]), nprocs=2)
        asked = [[path for path, _ in server.requests] for server in (one, other)]
        prompts = [[body["prompt"] for body in server.completions() if "seed" in body] for server in (one, other)]
    outcomes = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert [outcome["version"] for outcome in outcomes] == [3, 3]
    assert all("off by nan" in outcome["error"] for outcome in outcomes)
    assert [paths.count("/collective_rpc") for paths in asked] == [2, 2]  # one for each version, by one rank
    assert prompts == [[[5, 6]], [[6, 6]]]  # ranks do not all begin with the first server
