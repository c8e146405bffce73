"""From a checkpoint to a folder that anybody's `from_pretrained` loads, and that is the trained student."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from mentor_pl.cli.export import load_weights, student_loader
from mentor_pl.cli.main import main
from mentor_pl.training.checkpoint_io import AtomicCheckpointIO
from tests.integration.distributed.runs import CONFIGS, LORA, Runs

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]  # a minute; more where cores are shared

KEEP = ("--export.enabled", "true", "--summary.enabled", "true", "--trainer.max_steps", "2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("runs"))
    runs.train({"full": KEEP, "lora": (*LORA, *KEEP)})
    return runs


def export(runs: Runs, name: str, output: Path, *options: str) -> Path:
    checkpoint = runs.folder / name / "checkpoints" / "last.ckpt"
    main(["export", "--checkpoint", str(checkpoint), "--output", str(output), *options])
    return output


def trained(runs: Runs, name: str) -> PreTrainedModel:
    """Return the student as training left it."""
    model = student_loader(runs.folder / name / "config.yaml").load_model()
    checkpoint = runs.folder / name / "checkpoints" / "last.ckpt"
    load_weights(model, AtomicCheckpointIO().load_checkpoint(checkpoint)["state_dict"], source=checkpoint)
    return model.eval()


def generated(model: torch.nn.Module, folder: Path) -> list[list[int]]:
    """Return greedy continuations of three prompts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    out: list[list[int]] = []
    for problem in ("What is 12 plus 30?", "Multiply 4 by 9.", "Take 5 from 8."):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": problem}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        out.append(model.generate(ids, max_new_tokens=40, do_sample=False)[0].tolist())
    return out


@pytest.mark.parametrize("name", ["full", "lora"])
def test_the_folder_generates_what_the_trained_student_does(runs: Runs, tmp_path: Path, name: str) -> None:
    folder = export(runs, name, tmp_path / "student")
    exported = AutoModelForCausalLM.from_pretrained(folder).eval()
    start = AutoModelForCausalLM.from_pretrained(CONFIGS.parent / "mentor_pl" / "embedded" / "student").eval()
    tokens = generated(trained(runs, name), folder)
    assert generated(exported, folder) == tokens
    assert generated(start, folder) != tokens  # else nothing would have been shown
    ids = torch.tensor(tokens[0])[None]
    with torch.no_grad():
        torch.testing.assert_close(exported(ids).logits, trained(runs, name)(ids).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_the_run_has_left_the_same_folder(runs: Runs, tmp_path: Path, name: str) -> None:
    ours, theirs = export(runs, name, tmp_path / "student"), runs.folder / name / "student"
    assert sorted(file.name for file in ours.iterdir()) == sorted(file.name for file in theirs.iterdir())
    for file in theirs.iterdir():
        assert (ours / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_adapter_alone(runs: Runs, tmp_path: Path) -> None:
    folder = export(runs, "lora", tmp_path / "adapter", "--merge", "false")
    base = AutoModelForCausalLM.from_pretrained(CONFIGS.parent / "mentor_pl" / "embedded" / "student")
    model = PeftModel.from_pretrained(base, str(folder)).eval()
    assert generated(model, folder) == generated(trained(runs, "lora"), folder)
    assert "library_name: peft" in (folder / "README.md").read_text()


def test_the_card_tells_the_facts_of_the_run(runs: Runs, tmp_path: Path) -> None:
    card = (export(runs, "lora", tmp_path / "student") / "README.md").read_text()
    for fact in (
        "| base | `embedded:student` |",
        "LoraStudent(rank 4",
        "kl_weight 0.1",
        "| reward | correct 0.7, tool_match 0.3, known_tools 0.1 |",
        "| rollouts | 4 prompts x 4",
        "| weight updates | 2 |",
        "| references | `embedded:train",
        "Before → after training (teacher).",
        "| id | ",
        f"torch {version('torch')}",
    ):
        assert fact in card, fact


def test_the_card_of_an_earlier_checkpoint_claims_no_result(runs: Runs, tmp_path: Path) -> None:
    main(["export", "--checkpoint", str(runs.checkpoint("lora", 1)), "--output", str(tmp_path / "early")])
    card = (tmp_path / "early" / "README.md").read_text()
    assert "| weight updates | 1 |" in card
    assert "These weights, of update 1, were not evaluated." in card


@pytest.mark.parametrize(
    ("checkpoint", "run_dir", "says"),
    [
        ("lora/checkpoints/none.ckpt", None, "there is no checkpoint"),
        ("elsewhere/last.ckpt", None, "holds a config.yaml; give the folder of the checkpoint's run as --run_dir"),
        ("lora/checkpoints/last.ckpt", "full", "it comes from a run with another student"),
    ],
)
def test_what_cannot_be_exported(
    runs: Runs,
    tmp_path: Path,
    checkpoint: str,
    run_dir: str | None,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (runs.folder / "elsewhere").mkdir(exist_ok=True)
    shutil.copy(runs.checkpoint("lora", 1), runs.folder / "elsewhere" / "last.ckpt")
    command = ["export", "--checkpoint", str(runs.folder / checkpoint), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main([*command, *(("--run_dir", str(runs.folder / run_dir)) if run_dir else ())])
    assert stopped.value.code == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
