import logging

import pytest

from mentor_pl.engines.auto import AutoEngine
from mentor_pl.engines.base import GenerationRequest, SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import EngineError
from mentor_pl.testing.tiny_models import tiny_random_model
from tests.unit.engines.models import tiny_model


def generated(engine, version):
    with engine.session(SamplingParams(), [0]) as session:
        session.submit([GenerationRequest(row=0, token_ids=(5, 6, 7), max_new_tokens=3, seed=0)])
        [(_, completion)] = session.poll()
    assert completion.policy_version == version
    return completion.token_ids


def test_a_supported_student_gets_the_fast_engine(caplog):
    engine = AutoEngine()
    assert engine.chosen is None
    with caplog.at_level(logging.INFO, logger="mentor_pl.engines"):
        engine.sync(tiny_model("qwen3"), version=1)
    assert type(engine.chosen) is CascadeEngine
    assert "rollouts by CascadeEngine" in caplog.messages
    assert generated(engine, version=1)
    engine.sync(tiny_model("qwen3"), version=2)
    assert generated(engine, version=2)


def test_any_other_student_gets_the_reference_engine_and_the_reason_is_logged(caplog):
    engine = AutoEngine(max_rows=3)
    engine.sync(tiny_random_model("stablelm"), version=0)
    assert type(engine.chosen) is HFGenerateEngine
    assert engine.chosen.max_batch_rows == 3
    assert "the slow one: StableLmForCausalLM does not hand keywords" in caplog.text
    assert generated(engine, version=0)


def test_a_session_needs_weights():
    with pytest.raises(EngineError, match="call sync"):
        AutoEngine().session(SamplingParams(), [0])
