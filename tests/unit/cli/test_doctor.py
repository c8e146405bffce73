"""What `mentor-pl doctor` finds and how it ends."""

import contextlib
import io
import json

import pytest
from transformers import AutoConfig

from mentor_pl.cli.doctor import doctor, examine_model
from mentor_pl.cli.main import main
from mentor_pl.embedded import resolve
from mentor_pl.testing.tiny_models import tiny_random_model


@pytest.fixture(scope="module")
def said():
    """What it says of the embedded student, by topic."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        faults = doctor("embedded:student", rows=2, context_tokens=64)
    return faults, out.getvalue()


def test_the_embedded_student_can_be_trained(said):
    faults, text = said
    assert faults == 0
    assert text.rstrip().endswith("embedded:student: can be trained")
    assert "CascadeEngine, the fast one" in text and "packed batches" in text


def test_an_example_marks_what_is_trained(said):
    _, text = said
    assert "⟦It is \\boxed{391}.<|im_end|>⟧" in text
    assert "⟦<tool_call>" in text and "⟦<|im_start|>user" not in text


def test_the_memory_of_a_plan_is_worked_out(said):
    """2 (keys, values) x layers x width x 2 rows x 64 tokens x 4 bytes."""
    config = AutoConfig.from_pretrained(resolve("embedded:student"))
    width = config.num_key_value_heads * (config.head_dim or config.hidden_size // config.num_attention_heads)
    gib = 2 * config.num_hidden_layers * width * 2 * 64 * 4 / 2**30
    assert f"the cache of 2 rows of 64 tokens up to {gib:.1f} GiB" in said[1]


def test_a_student_that_cannot_be_trained_fails_with_a_remedy(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", str(tmp_path)])
    assert stopped.value.code == 1
    text = capsys.readouterr().out
    assert "fault" in text and f"student '{tmp_path}'" in text
    assert text.rstrip().endswith("cannot be trained so")


@pytest.mark.parametrize(
    ("family", "engine", "packing"), [("lfm2", "the fast one", "padded"), ("llama", "the fast one", "packed")]
)
def test_engine_and_packing_follow_the_architecture(family, engine, packing):
    found = {finding.topic: finding for finding in examine_model(tiny_random_model(family), rows=1)}
    assert engine in found["engine"].text
    assert packing in found["packing"].text


def test_a_plan_beyond_the_context_is_noted():
    model = tiny_random_model("llama")
    limit = model.config.max_position_embeddings
    found = {f.topic: f for f in examine_model(model, rows=1, context_tokens=limit + 1)}
    assert (found["context"].level, found["context"].remedy) == ("note", f"plan with context_tokens of at most {limit}")
