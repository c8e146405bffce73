import json
import logging
from types import SimpleNamespace

import pytest
import torch

from mentor_pl.callbacks.collapse_guard import CollapseGuard
from mentor_pl.callbacks.collapse_watch import CollapseWatch
from mentor_pl.errors import ConfigError, MentorError

HEALTHY = {
    "reward": 0.37,
    "score/correct": 0.3,
    "score/known_tools": 0.96,
    "tool_calls": 1.2,
    "completion_tokens": 20.0,
    "entropy": 0.2,
    "kl": 0.02,
    "uniform_groups": 0.1,
}


def run(steps=60, **ends):
    """Metrics that move in a straight line from HEALTHY to their ends."""
    return [
        {name: value + (ends.get(name, value) - value) * step / (steps - 1) for name, value in HEALTHY.items()}
        for step in range(steps)
    ]


def signs(rows):
    watch = CollapseWatch()
    return [(step, sign.name) for step, row in enumerate(rows) for sign in watch.update(row)]


def names(rows):
    return [name for _, name in signs(rows)]


def test_a_run_that_learns_is_not_reported():
    learns = {
        "reward": 0.95,
        "score/correct": 0.9,
        "tool_calls": 2.3,
        "completion_tokens": 33.0,
        "entropy": 0.03,
        "kl": 0.1,
    }
    assert signs(run(**learns)) == []
    assert signs(run(**learns, uniform_groups=0.95)) == []  # all is learned: nothing is left to compare


@pytest.mark.parametrize(
    ("ends", "name"),
    [
        ({"reward": 0.8}, "reward without success"),
        ({"tool_calls": 0.1}, "calls vanish"),
        ({"tool_calls": 5.0}, "calls run away"),
        ({"kl": 3.0}, "far from the start"),
        ({"entropy": 1.5}, "entropy"),
        ({"entropy": 0.0}, "entropy"),
        ({"completion_tokens": 200.0}, "lengths"),
        ({"completion_tokens": 2.0}, "lengths"),
        ({"score/known_tools": 0.5}, "unknown tools"),
        ({"uniform_groups": 1.0}, "no signal"),
        ({"score/correct": 0.0}, "success falls"),
    ],
)
def test_each_sign_is_seen_once(ends, name):
    assert names(run(**ends)) == [name]


def test_hacking_is_seen_before_success_falls():
    hacked = signs(run(reward=1.0, tool_calls=7.0, **{"score/correct": 0.0}))
    success = [row["score/correct"] for row in run(reward=1.0, **{"score/correct": 0.0})]
    assert hacked[0][1] == "reward without success"
    assert success[hacked[0][0]] > 0.3 - 0.1


def test_what_a_run_does_not_measure_is_not_watched():
    assert signs([{"entropy": 0.2}] * 20) == []
    assert names([{"entropy": 0.2}] * 6 + [{"entropy": 2.0}] * 10) == ["entropy"]


def test_a_watch_goes_on_where_it_was():
    rows = run(reward=1.0)
    whole = signs(rows)
    first = CollapseWatch()
    found = [(i, s.name) for i, row in enumerate(rows[:10]) for s in first.update(row)]
    second = CollapseWatch()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [(i, s.name) for i, row in enumerate(rows[10:], 10) for s in second.update(row)]
    assert found == whole


def fit(folder, guard, kl_weight=0.1):
    """Let a guard see a run in which the reward is hacked."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.4)
    trainer = SimpleNamespace(
        global_step=0,
        is_global_zero=True,
        default_root_dir=folder,
        callback_metrics={},
        optimizers=[optimizer],
        lr_scheduler_configs=[],
    )
    module = SimpleNamespace(loss=SimpleNamespace(kl_weight=kl_weight))
    guard.on_fit_start(trainer, module)
    guard.on_train_start(trainer, module)
    for row in run(steps=20, reward=1.0):
        trainer.callback_metrics = {f"train/{name}": torch.tensor(value) for name, value in row.items()}
        guard.on_train_batch_end(trainer, module, None, None, 0)  # a micro-batch that ends no step
        trainer.global_step += 1
        guard.on_train_batch_end(trainer, module, None, None, 0)
    return optimizer.param_groups[0]["lr"], module.loss.kl_weight


def test_a_report_has_the_curve_and_the_cause(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert fit(tmp_path, CollapseGuard()) == (0.4, 0.1)
    (report,) = [json.loads(line) for line in (tmp_path / "collapse.jsonl").read_text().splitlines()]
    assert (report["sign"], report["metric"]) == ("reward without success", "reward")
    assert "gate bonuses on success" in report["cause"] and "gate bonuses on success" in caplog.text
    assert [step for step, _ in report["curve"]] == list(range(1, report["step"] + 1))
    assert report["curve"][0][1] == pytest.approx(0.37)


def test_the_answers(tmp_path):
    assert fit(tmp_path, CollapseGuard(answer="lower_lr")) == pytest.approx((0.2, 0.1))
    raised = CollapseGuard(answer="raise_kl", factor=0.25)
    assert fit(tmp_path, raised) == pytest.approx((0.4, 0.4))
    resumed = CollapseGuard(answer="raise_kl", factor=0.25)
    resumed.load_state_dict(raised.state_dict())
    module = SimpleNamespace(loss=SimpleNamespace(kl_weight=0.1))
    resumed.on_train_start(SimpleNamespace(global_step=20), module)
    assert module.loss.kl_weight == pytest.approx(0.4)
    with pytest.raises(MentorError, match="reward without success: the reward rose by .* Resume with --ckpt_path"):
        fit(tmp_path, CollapseGuard(answer="stop"))


def test_settings_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="answer is 'raise_kl' but the loss has no kl_weight"):
        fit(tmp_path, CollapseGuard(answer="raise_kl"), kl_weight=0.0)
    with pytest.raises(ConfigError, match="factor 1.5 must lie in"):
        CollapseGuard(factor=1.5)
