"""Several attempts at each evaluation problem: the same ones however they are divided into batches."""

import pytest

from mentor_pl.errors import ConfigError
from mentor_pl.evaluation.attempts import StopReasons
from mentor_pl.evaluation.sampling import EvaluationSampling
from tests.unit.training.runs import make_data, make_module, make_trainer, some_references


def attempts(tmp_path, batch_size):
    """Predict and validate a split of three problems with four samples each; return what was sampled and measured."""
    data = make_data(
        some_references(tmp_path / "references.jsonl", 4),
        evaluation={"id": some_references(tmp_path / "id.jsonl", 3, "embedded:eval/id.jsonl")},
        evaluation_sampling=EvaluationSampling(samples=4, temperature=1.0, batch_size=batch_size),
        metrics=[StopReasons()],
    )
    module = make_module()
    trainer = make_trainer(tmp_path, limit_val_batches=1.0)
    batches = trainer.predict(module, data)
    trainer.validate(module, data, verbose=False)
    data.close()
    return batches, module.evaluation["id"]


def test_samples_depend_on_problem_and_number_only(tmp_path):
    together, measured = attempts(tmp_path, batch_size=12)
    apart, measured_apart = attempts(tmp_path, batch_size=4)
    assert (len(together), len(apart)) == (1, 3)  # so many batches: a batch size counts attempts
    one, other = ([t for b in batches for g in b.groups for t in g.trajectories] for batches in (together, apart))
    assert [t.messages() for t in one] == [t.messages() for t in other]
    assert [t.sample_index for t in one] == [0, 1, 2, 3] * 3
    assert len({t.turns[0].completion.token_ids for t in one[:4]}) > 1
    assert measured == measured_apart
    assert measured["mean@4"] == measured["success"] == measured["accuracy"]
    assert measured["pass^4"] <= measured["pass^2"] <= measured["mean@4"] <= measured["pass@2"] <= measured["pass@4"]
    assert sum(value for name, value in measured.items() if name.startswith("stop_reasons/")) == pytest.approx(1.0)


def test_two_metrics_of_one_name_are_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="two metrics are named 'stop_reasons'"):
        make_data(
            some_references(tmp_path / "references.jsonl", 4),
            evaluation={"id": "embedded:eval/id.jsonl"},
            metrics=[StopReasons(), StopReasons()],
        )
