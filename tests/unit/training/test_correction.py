"""Runs whose samples come from another distribution than the trained one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.cascade.engine import CascadeEngine
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import ConfigError, EngineError
from mentor_pl.losses import GRPOLoss, SFTLoss, TruncatedImportanceSampling
from mentor_pl.students.full import FullStudent
from tests.unit.training.runs import Diary, make_data, make_module, make_trainer, same, some_references, weights

pytestmark = pytest.mark.integration  # whole runs


class Unloadable(FullStudent):
    """A student whose weights must not be asked for."""

    def load_model(self):
        raise AssertionError("the student was loaded")


class Drifted(HFGenerateEngine):
    """Holds other weights than the trainer, as an engine does that missed its sync."""

    def sync(self, model, version):
        other, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        super().sync(other, version)


class Logged(Diary):
    """Notes every step's correction, too."""

    def __init__(self):
        super().__init__()
        self.correction = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        prefix = "train/correction/"
        values = {n.removeprefix(prefix): float(v) for n, v in trainer.callback_metrics.items() if n.startswith(prefix)}
        if trainer.global_step > len(self.correction):
            self.correction.append(values)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return some_references(tmp_path_factory.mktemp("data") / "references.jsonl", 4)


def fit(folder, references, *, data=None, module=None, **trainer):
    diary = Logged()
    the_module = make_module(**{"correction": TruncatedImportanceSampling()} | (module or {}))
    the_data = make_data(references, **data or {})
    try:
        make_trainer(folder, diary, **{"max_steps": 2} | trainer).fit(the_module, the_data)
    finally:
        the_data.close()
    return diary, the_module


# The ratio of the second step and pass is taken to the weights that the round began with, as it is without a correction.
@pytest.mark.parametrize(("plan", "steps"), [({}, 2), ({"round": {"steps": 2, "passes": 2}}, 7)])
def test_an_exact_engine_needs_no_correction(tmp_path, references, plan, steps):
    corrected, module = fit(tmp_path, references, data=plan, max_steps=steps)
    plain, plain_module = fit(tmp_path, references, data=plan, module={"correction": None}, max_steps=steps)
    assert corrected.rounds == plain.rounds
    assert_close(corrected.losses, plain.losses, rtol=0, atol=1e-4)
    for found in corrected.correction:
        assert found == pytest.approx(
            {"kl": 0, "weight": 1, "squared_weight": 1, "capped": 0, "effective_sample_size": 1}, abs=1e-4
        )
    assert len(corrected.correction) == steps and plain.correction == [{}] * steps


FILTERED = {"sampling": SamplingParams(top_k=2)}


@pytest.fixture(scope="module")
def filtered(tmp_path_factory, references):
    return fit(tmp_path_factory.mktemp("filtered"), references, data=FILTERED)[0]


def test_what_a_filter_kept_weighs_less(filtered):
    for found in filtered.correction:
        assert 0.3 < found["weight"] < 0.9999
        assert found["capped"] == 0
        assert 0.5 < found["effective_sample_size"] < 0.9999


@pytest.mark.parametrize(
    "options", [{"accumulate_grad_batches": 2}, {"module": {"packing": False}}], ids=["accumulated", "padded"]
)
def test_how_a_step_is_cut_up_does_not_matter(tmp_path, references, filtered, options):
    other = fit(tmp_path, references, data=FILTERED, **options)[0]
    assert other.rounds == filtered.rounds
    assert_close(other.losses, filtered.losses, rtol=0, atol=1e-5)
    for found, expected in zip(other.correction, filtered.correction, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_tokens_without_advantage_may_be_left_out(tmp_path, references):
    """The loss is still divided by all trained tokens of the step."""
    module = {"loss": GRPOLoss(kl_weight=0.0)}
    lean, _ = fit(tmp_path, references, data=FILTERED, module=module, max_steps=1)

    class Whole(GRPOLoss):
        def __init__(self):
            super().__init__(kl_weight=0.0)
            self.needs_all_tokens = True

    whole, _ = fit(tmp_path, references, data=FILTERED, module={"loss": Whole()}, max_steps=1)
    assert_close(lean.losses, whole.losses, rtol=0, atol=1e-7)


def test_a_rollout_in_bfloat16(tmp_path, references):
    found = fit(tmp_path, references, module={"engine": CascadeEngine(precision="bfloat16")})[0].correction
    assert all(1e-7 < step["kl"] < 0.01 and step["effective_sample_size"] > 0.95 for step in found)


@pytest.mark.parametrize("cuts", [1, 2])
def test_a_sampler_with_other_weights_is_refused_before_it_changes_anything(tmp_path, references, cuts):
    module = make_module(engine=Drifted(), correction=TruncatedImportanceSampling())
    data = make_data(references)
    with pytest.raises(EngineError, match=r"effective sample size of this step is 0\.\d+ .* under the limit of 0\.5"):
        make_trainer(tmp_path, max_steps=1, accumulate_grad_batches=cuts).fit(module, data)
    data.close()
    assert same(weights(module), make_module().loader.load_model().state_dict())


def test_filters_need_the_correction(tmp_path, references):
    message = r"data\.sampling\.top_p is 0\.9, .* set model\.correction to TruncatedImportanceSampling"
    module = {"student": Unloadable("embedded:student"), "correction": None}
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path, references, data={"sampling": SamplingParams(top_p=0.9)}, module=module)


def test_imitation_has_nothing_to_correct(tmp_path, references):
    module = {"student": Unloadable("embedded:student"), "loss": SFTLoss()}
    with pytest.raises(ConfigError, match="model.correction is TruncatedImportanceSampling but data.train_on is 'ref"):
        fit(tmp_path, references, data={"train_on": "references", "reward": None}, module=module)
