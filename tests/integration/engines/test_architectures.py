"""Every measured architecture on the fast engine: log-probabilities of a full forward, and the tokens of `generate`."""

import pytest

from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.testing.tiny_models import FAMILIES, tiny_random_model
from tests.unit.engines.cascade.test_engine import ROWS, assert_exact, roll_out

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"stablelm"}))
def test_the_fast_engine_is_exact(family: str) -> None:
    model, greedy = tiny_random_model(family), SamplingParams(temperature=0)
    assert_exact(model, roll_out(CascadeEngine(), model, ROWS)[0], atol=1e-3)
    fast, _ = roll_out(CascadeEngine(), model, ROWS, sampling=greedy)
    plain, _ = roll_out(HFGenerateEngine(), model, ROWS, sampling=greedy)
    assert {row: c[0] for row, c in fast.items()} == {row: c[0] for row, c in plain.items()}
