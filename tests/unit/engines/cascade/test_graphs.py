import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model

from mentor_pl.engines.base import GenerationRequest, SamplingParams
from mentor_pl.engines.cascade import graphs
from mentor_pl.engines.cascade.decoder import Decoder
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.students.nf4 import Nf4LoraStudent
from tests.unit.engines.cascade.op_tape import OpTape, Tapes
from tests.unit.engines.cascade.test_engine import PROMPTS, ROWS, assert_exact, roll_out
from tests.unit.engines.models import FAMILIES, tiny_model


@pytest.fixture
def tapes(monkeypatch):
    tapes = Tapes()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", tapes)
    return tapes


def test_a_tape_follows_its_inputs_and_refuses_to_ask_them():
    number, kept = torch.ones(2), torch.zeros(3)
    tape = OpTape()
    with tape:
        kept[1:] = number * 2
        result = kept.view(3, 1) + 1
    number.fill_(5.0)
    tape.replay()
    assert result[:, 0].tolist() == [1.0, 11.0, 11.0]
    with pytest.raises(RuntimeError, match="cannot be recorded"), OpTape():
        number.max().item()
    with pytest.raises(RuntimeError, match="cannot be recorded"), OpTape():
        torch.tensor([1.0])


@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_rollouts_are_those_of_a_full_forward(family, tapes, monkeypatch):
    model = tiny_model(family)
    conversations, statistics = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations)
    replays = sum(tape.replays for tape in tapes.tapes)
    assert len(tapes.tapes) < 20 < replays
    monkeypatch.setitem(graphs.RECORDERS, "cpu", None)
    computed, same = roll_out(CascadeEngine(), model, ROWS)
    assert {row: c[0] for row, c in conversations.items()} == {row: c[0] for row, c in computed.items()}
    assert statistics == same


def test_most_steps_run_no_python_of_the_decoders(tapes, monkeypatch):
    model, forwards, engine = tiny_model("llama"), [], CascadeEngine()
    engine.sync(model, 0)
    forward = Decoder.forward
    monkeypatch.setattr(Decoder, "forward", lambda self, *args: forwards.append(1) or forward(self, *args))
    with engine.session(SamplingParams(), ()) as session:
        session.submit([GenerationRequest(row=0, token_ids=PROMPTS[0], max_new_tokens=60, seed=0)])
        assert len(session.poll()[0][1].token_ids) == 60
    # the prompt, a step as usual, and one recorded
    assert len(forwards) == 3
    assert tapes.tapes[-1].replays == 58


def test_recordings_are_made_anew_when_the_store_grows(tapes):
    model = tiny_model("qwen2")
    found, _ = roll_out(CascadeEngine(), model, ROWS, turns=40)
    assert max(len(token_ids) for token_ids, _, _ in found.values()) > 256 + 64
    assert_exact(model, found, atol=2e-4)


def test_adapters_are_recorded_too(tapes):
    model = get_peft_model(tiny_model("qwen3"), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations)
    assert tapes.tapes


def test_4_bit_students_under_autocast_are_recorded_too(tapes, tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    model = Nf4LoraStudent(str(tmp_path), rank=4, dtype="float32").load_model()
    with torch.autocast("cpu", torch.bfloat16):
        conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    assert_exact(model, conversations, atol=0.15)
    assert tapes.tapes


def test_rows_that_wait_are_not_overwritten_by_those_that_pad(tapes):
    model = tiny_model("llama")
    few_at_a_time, _ = roll_out(CascadeEngine(max_rows=3), model, ROWS, interrupts=True)
    plain, _ = roll_out(HFGenerateEngine(), model, ROWS)
    assert {row: c[0] for row, c in few_at_a_time.items()} == {row: c[0] for row, c in plain.items()}


@pytest.mark.parametrize("fault", ["it does not record", "it replays nothing"])
def test_where_recording_fails_steps_are_computed(fault, monkeypatch, caplog):
    def record(compute):
        if fault == "it does not record":
            raise RuntimeError(fault)
        return lambda: None, compute().fill_(0.0)

    monkeypatch.setitem(graphs.RECORDERS, "cpu", lambda: record)
    model = tiny_model("llama")
    with caplog.at_level(logging.WARNING):
        conversations, _ = roll_out(CascadeEngine(), model, ROWS)
    [warning] = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("CascadeEngine decodes without graphs, which is slower: ")
    assert_exact(model, conversations)


def test_graphs_can_be_switched_off(tapes):
    roll_out(CascadeEngine(graphs=False), tiny_model("llama"), ROWS)
    assert not tapes.tapes
