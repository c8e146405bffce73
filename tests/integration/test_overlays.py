"""The overlays of configs/ that distributed/ leaves out: a run of each goes on from a checkpoint, is exported, and generates."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from mentor_pl.embedded import resolve
from mentor_pl.students import gguf_conversion
from tests.integration.distributed.runs import CONFIGS, DDP, FSDP, FSDP1, Runs
from tests.integration.distributed.test_export import export, generated, trained

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

NF4 = ("--config", str(CONFIGS / "student/nf4_lora.yaml"), "--model.student.init_args.rank", "4")
TWO_STEPS = ("--trainer.max_steps", "2", "--export.enabled", "true")
FLOAT_STORAGE = ("--model.student.init_args.quant_storage", "float32")
SHARDS_INTEGERS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)  # torch 2.11 does not
NAMES = ["nf4_lora", "nf4_lora ddp", "nf4_lora fsdp", "nf4_lora fsdp1"]
if find_spec("gguf") is not None:
    NAMES.append("gguf")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Two steps of each, and the second once more from the checkpoint of the first."""
    runs = Runs(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:  # where converted GGUF files are kept: here and in the runs
        cache = str(tmp_path_factory.mktemp("cache"))
        patch.setenv("HF_HOME", cache)
        patch.setattr(gguf_conversion, "HF_HOME", cache)
        train(runs, tmp_path_factory.mktemp("models"))
        yield runs


def train(runs: Runs, models: Path) -> None:
    alone: dict[str, tuple[str, ...]] = {"nf4_lora": NF4}
    pair: dict[str, tuple[str, ...]] = {
        "nf4_lora ddp": (*NF4, *DDP),
        "nf4_lora fsdp": (*NF4, *FSDP, *(() if SHARDS_INTEGERS else FLOAT_STORAGE)),
        "nf4_lora fsdp1": (*NF4, *FSDP1, *FLOAT_STORAGE),
    }
    if "gguf" in NAMES:
        alone["gguf"] = gguf(models)
    for commands in (alone, pair):
        again = {
            f"{name} again": (*overlays, "--ckpt_path", str(runs.checkpoint(name, 1)))
            for name, overlays in commands.items()
        }
        runs.train({name: (*overlays, *TWO_STEPS) for name, overlays in {**commands, **again}.items()})


def gguf(folder: Path) -> tuple[str, ...]:
    """The embedded student as a GGUF file."""
    from tests.unit.students.gguf_files import write_gguf

    source = resolve("embedded:student")
    write_gguf(LlamaForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source), folder / "tiny.gguf")
    keys = {
        "path": folder,
        "gguf_file": "tiny.gguf",
        "pad_token": "<|endoftext|>",
        "chat_template": source / "chat_template.jinja",  # hermes is too long for its context
    }
    options = [f"--model.student.init_args.{key}={value}" for key, value in keys.items()]
    return ("--config", str(CONFIGS / "student/gguf.yaml"), *options)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_and_its_student_is_exported(runs: Runs, tmp_path: Path, name: str) -> None:
    first, second, again = runs.weights(name, 1), runs.weights(name, 2), runs.weights(f"{name} again", 2)
    assert second.keys() == again.keys()
    assert all("lora_" in key for key in second) == name.startswith("nf4")
    for key, weight in second.items():
        torch.testing.assert_close(again[key], weight, rtol=0, atol=2e-6, msg=lambda text, key=key: f"{key}: {text}")
    # Two hundred times the tolerance: weights that did not move would be the same too.
    assert max(float((second[key] - first[key]).abs().max()) for key in second) > 4e-4

    folder = export(runs, f"{name} again", tmp_path / "student")
    ours, theirs = (load_file(f / "model.safetensors") for f in (folder, runs.folder / f"{name} again" / "student"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    student = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = generated(student, folder)
    assert tokens == generated(trained(runs, f"{name} again"), folder)
    ids = torch.tensor(tokens[0])[None]
    with torch.no_grad():
        expected = trained(runs, f"{name} again")(ids).logits
        torch.testing.assert_close(student(ids).logits, expected, rtol=0, atol=1e-4)
