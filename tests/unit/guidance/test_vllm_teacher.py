"""A server that judges tokens, played by a stand-in that really computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.embedded import resolve
from mentor_pl.errors import ConfigError
from mentor_pl.guidance import VLLMTeacher
from mentor_pl.guidance.token_teachers import AskedSequence
from mentor_pl.students.full import FullStudent
from tests.unit.engines.vllm.stand_in_server import StandIn, serving

pytestmark = pytest.mark.integration  # a server


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with serving(resolve("embedded:student")) as server:
        server.tokenizer = FullStudent("embedded:student").load_tokenizer()
        yield server


def test_its_prompt_logprobs_are_the_models_own(server: StandIn) -> None:
    ids = torch.tensor([5, 6, 7, 8, 9, 10])
    asked = torch.tensor([False, False, True, True, False, True])
    sequence = AskedSequence(token_ids=ids, asked=asked, prompt_length=2, references=())
    teacher = VLLMTeacher(server.url)
    teacher.check(server.tokenizer, 1.0)
    found = teacher.logprobs([sequence, sequence], None)  # type: ignore[arg-type]
    with torch.no_grad():
        table = FullStudent("embedded:student").load_model()(input_ids=ids[None]).logits[0].log_softmax(-1)
    expected = torch.stack([table[1, 7], table[2, 8], table[4, 10]])
    assert all(row is not None for row in found) and len(found) == 2
    assert_close(found[0], expected, rtol=0, atol=1e-5)


def test_another_tokenizer_is_refused(server: StandIn) -> None:
    student = FullStudent("embedded:student").load_tokenizer()
    student.add_tokens(["Élan"])
    with pytest.raises(
        ConfigError, match="the model at http.* has another tokenizer than the student: token 0 of a text"
    ):
        VLLMTeacher(server.url).check(student, 1.0)


def test_another_temperature_is_refused(server: StandIn) -> None:
    with pytest.raises(ConfigError, match="temperature is 0.7"):
        VLLMTeacher(server.url).check(server.tokenizer, 0.7)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="VLLMTeacher.url is 'localhost:8000'"):
        VLLMTeacher("localhost:8000")
