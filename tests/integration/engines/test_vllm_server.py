"""VLLMEngine against a real vLLM server of the embedded student.

MENTOR_PL_VLLM_PYTHON names an interpreter that has vLLM (scripts/vllm_server.sh makes one), and a server is started; or MENTOR_PL_VLLM_URL
names a server of `embedded:student` that runs, in float32. Without either, nothing here runs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, PreTrainedModel

from mentor_pl.cli.main import main
from mentor_pl.embedded import resolve
from mentor_pl.engines import vllm as vllm_engine
from mentor_pl.engines.base import GenerationRequest, SamplingParams
from mentor_pl.engines.vllm.engine import VLLMEngine
from mentor_pl.engines.vllm.weights import write_weights
from mentor_pl.errors import EngineError
from mentor_pl.testing import check_rollout_engine
from tests.unit.engines.models import full_forward_logprobs

ROOT = Path(__file__).parents[3]
PYTHON, URL = os.environ.get("MENTOR_PL_VLLM_PYTHON"), os.environ.get("MENTOR_PL_VLLM_URL")
PROMPTS = [tuple(range(5, 60)), (12, 13), tuple(range(300, 340))]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (PYTHON or URL), reason="neither MENTOR_PL_VLLM_PYTHON nor MENTOR_PL_VLLM_URL is set"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if URL:
        yield URL
        return
    assert PYTHON
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    command = ["bash", str(ROOT / "scripts/vllm_server.sh"), "embedded:student", "--port", str(port)]
    environment = {**os.environ, "MENTOR_PL_VLLM_VENV": str(Path(PYTHON).parents[1]), "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)


@pytest.fixture
def engine(url: str) -> Iterator[VLLMEngine]:
    engine = VLLMEngine([url])
    yield engine
    engine.sync(start(), 0)  # the server's weights are what they were, for the next test
    engine.close()


def start() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(resolve("embedded:student"), dtype=torch.float32)


def adapted(std: float = 1e-3) -> PeftModel:
    config = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    torch.manual_seed(0)
    model = get_peft_model(start(), config)
    update(model, std, only="lora_B")
    return model


def update(model: torch.nn.Module, std: float, only: str = "") -> None:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and only in name:
            parameter.data.add_(torch.randn(parameter.shape) * std)


@pytest.mark.parametrize("adapter", [False, True])
def test_the_contract_of_engines(engine: VLLMEngine, adapter: bool) -> None:
    model = adapted(0.02) if adapter else start()
    if not adapter:
        update(model, 1e-3)
    check_rollout_engine(engine, model, PROMPTS, atol=2e-4)


def test_many_rows_at_once_under_filters(engine: VLLMEngine) -> None:
    """Log-probabilities are those of the filtered distribution, here of two tokens at half the temperature."""
    model = adapted(0.02)
    engine.sync(model, 2)
    rows = {row: tuple(range(5 + row % 8, 300 + row % 8)) for row in range(64)}  # more than one prefill holds
    with engine.session(SamplingParams(temperature=0.5, top_k=2), (2,)) as session:
        session.submit(
            [GenerationRequest(row=row, token_ids=ids, max_new_tokens=6, seed=row) for row, ids in rows.items()]
        )
        done = {}
        while batch := session.poll():
            done.update(batch)
    assert sorted(done) == sorted(rows)
    for row in range(0, 64, 9):
        ids = [*rows[row], *done[row].token_ids]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0, len(rows[row]) - 1 : -1].float() / 0.5
        kept = scores.topk(2).values.logsumexp(-1)
        exact = scores.gather(1, torch.tensor(done[row].token_ids)[:, None])[:, 0] - kept
        assert_close(torch.tensor(done[row].logprobs), exact, atol=1e-3, rtol=0)


def test_greedy(engine: VLLMEngine) -> None:
    model = adapted(0.02)
    engine.sync(model, 2)
    with engine.session(SamplingParams(temperature=0), ()) as session:
        session.submit([GenerationRequest(row=0, token_ids=PROMPTS[0], max_new_tokens=8, seed=0)])
        [(_, completion)] = session.poll()
    ids = [*PROMPTS[0], *completion.token_ids]
    with torch.no_grad():
        assert model(input_ids=torch.tensor([ids])).logits[0, len(PROMPTS[0]) - 1 : -1].argmax(-1).tolist() == list(
            completion.token_ids
        )
    exact = full_forward_logprobs(model, ids)[len(PROMPTS[0]) - 1 :]
    assert_close(torch.tensor(completion.logprobs), exact, atol=2e-4, rtol=0)


# Faults, made in what is sent


def _sends(monkeypatch: pytest.MonkeyPatch, change: object) -> None:
    monkeypatch.setattr(vllm_engine, "write_weights", change)


def _spoilt(model: PeftModel, folder: Path, scale: float, only: str = "lora_B") -> None:
    before = {name: p.detach().clone() for name, p in model.named_parameters() if only in name and "lora_B" in name}
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data.mul_(scale)
    write_weights(model, folder)
    for name, parameter in model.named_parameters():
        if name in before:
            parameter.data.copy_(before[name])


@pytest.mark.parametrize(
    ("scale", "only", "named"),
    [
        (0.0, "lora_B", "the student without its adapter: what was sent since did not arrive|was never added"),
        (2.0, "lora_B", "those with the adapter added twice"),
        (0.0, "layers.1.", "part of them is missing or other"),
    ],
)
def test_a_spoilt_adapter_is_caught_at_the_first_sync(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch, scale: float, only: str, named: str
) -> None:
    with monkeypatch.context() as patch:
        _sends(patch, lambda model, folder: _spoilt(model, folder, scale, only))
        with pytest.raises(EngineError, match=named):
            engine.sync(adapted(), 1)


def test_an_adapter_for_a_base_that_has_it_is_caught_at_the_first_sync(url: str, engine: VLLMEngine) -> None:
    model = adapted()
    merged = start()
    with torch.no_grad():
        for name, layer in model.get_base_model().named_modules():
            if isinstance(layer, LoraLayer):
                merged.get_submodule(name).weight += layer.get_delta_weight("default")
    engine.sync(merged, 0)
    other = VLLMEngine([url])
    with pytest.raises(EngineError, match="it is merged into the served model"):
        other.sync(model, 1)
    other.close()


@pytest.mark.parametrize("adapter", [False, True])
def test_an_old_version_is_caught_at_its_sync(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch, adapter: bool
) -> None:
    model = adapted() if adapter else start()
    old = adapted() if adapter else start()
    engine.sync(model, 1)
    update(model, 1e-5)
    with monkeypatch.context() as patch:
        _sends(patch, lambda _, folder: write_weights(old, folder))
        with pytest.raises(EngineError, match="those of version 1: what was sent since did not arrive"):
            engine.sync(model, 2)


@pytest.mark.parametrize("overlay", ["", "student/lora.yaml"])
def test_a_fit(url: str, engine: VLLMEngine, tmp_path: Path, overlay: str) -> None:
    """The command of docs/servers.md, for two updates."""
    configs = [ROOT / "configs" / name for name in ("mentor.yaml", overlay, "engine/vllm.yaml") if name]
    arguments = [
        *(f"--config={config}" for config in configs),
        f"--model.engine.init_args.urls=[{url}]",
        "--trainer.max_steps=2",
        "--data.max_problems=2",
        "--data.prompts_per_round=4",
        "--trainer.enable_progress_bar=false",
        f"--run_dir={tmp_path}",
    ]
    main(["fit", *arguments])
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert "train/time/sync_s" in header
    assert any(rows)
