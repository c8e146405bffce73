import dataclasses
import json
import logging
import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback

from mentor_pl.callbacks.collapse_answers import GoodState
from mentor_pl.callbacks.collapse_guard import CollapseGuard
from mentor_pl.callbacks.collapse_probe import beginning, covariances
from mentor_pl.callbacks.collapse_watch import CollapseWatch, Sign
from mentor_pl.errors import ConfigError, MentorError
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.students.full import FullStudent
from mentor_pl.training.batching import packed_batch, padded_batch
from mentor_pl.training.samples import Sample, Source
from tests.unit.training.runs import make_data, make_module, make_trainer, some_references

HEALTHY = {
    "reward": 0.37,
    "success": 0.3,
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
        "success": 0.9,
        "tool_calls": 2.3,
        "completion_tokens": 33.0,
        "entropy": 0.03,
        "kl": 0.1,
    }
    assert signs(run(**learns)) == []
    assert signs(run(**learns, uniform_groups=0.95)) == []  # all is learned: nothing is left to compare


def test_imitation_that_becomes_certain_is_not_reported():
    """It samples nothing: there is no success, and the entropy of the teacher's tokens falls as it learns them."""
    falling = [{"entropy": 1.8 * 0.9**step} for step in range(60)]
    assert signs(falling) == []
    assert [name for _, name in signs([{"entropy": 0.2 * 1.1**step} for step in range(60)])] == ["entropy"]


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
        ({"success": 0.0}, "success falls"),
    ],
)
def test_each_sign_is_seen_once(ends, name):
    assert names(run(**ends)) == [name]


def test_hacking_is_seen_before_success_falls():
    hacked = signs(run(reward=1.0, tool_calls=7.0, **{"success": 0.0}))
    success = [row["success"] for row in run(reward=1.0, **{"success": 0.0})]
    assert hacked[0][1] == "reward without success"
    assert success[hacked[0][0]] > 0.3 - 0.1


def test_a_reward_that_does_not_follow_success_is_seen_before_the_warm_up_is_over():
    rows = run(steps=4)
    assert signs([{**row, "reward_agreement": 0.5} for row in rows]) == [(2, "reward against success")]
    assert signs([{**row, "reward_agreement": 0.9} for row in rows]) == []


def test_one_update_that_is_too_long_is_seen_at_once():
    rows = run(steps=4)
    assert signs([{**row, "step_kl": 0.04} for row in rows]) == []
    assert signs([{**row, "step_kl": 0.3} for row in rows]) == [(0, "too long a step")]


def test_a_policy_far_from_its_start_is_seen_in_the_warm_up():
    assert signs([{**row, "kl": 0.6} for row in run(steps=2)]) == [(0, "far from the start")]


def test_reward_and_success_are_compared_within_groups():
    def group(rewards, scores):
        return SimpleNamespace(rewards=rewards, scores={"correct": scores})

    # Less their means, 1/2 and 1/3: rewards 1/2 -1/2 0, successes 2/3 -1/3 -1/3.
    groups = [group((1.0, 0.0, 0.5), (1.0, 0.0, 0.0))]
    assert covariances(groups, "correct") == pytest.approx((0.5, 0.5, 2 / 3))
    # A group of failures adds what its rewards differ by; what could not be told does not count.
    groups.append(group((0.2, 0.0, 9.0), (0.0, 0.0, math.nan)))
    assert covariances(groups, "correct") == pytest.approx((0.5, 0.52, 2 / 3))
    assert covariances(groups, "solved") == (0.0, 0.0, 0.0)


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


ONE_RANK = SimpleNamespace(
    root_device="cpu", reduce=lambda value, reduce_op: value, broadcast=lambda value: value, barrier=lambda: None
)


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
        strategy=ONE_RANK,
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


def test_the_last_good_state_is_put_back_but_not_its_learning_rate(tmp_path):
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    trainer = SimpleNamespace(
        global_step=7, is_global_zero=True, default_root_dir=tmp_path, optimizers=[optimizer], strategy=ONE_RANK
    )
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    good, weight = GoodState(), module.weight.detach().clone()
    moment = optimizer.state[module.weight]["exp_avg"].clone()
    good.save(trainer, module, {"steps": 7})
    module.weight.data += 1
    module(torch.full((2,), 9.0)).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.05
    assert good.restore(trainer, module) == {"steps": 7}
    assert torch.equal(module.weight, weight)
    assert torch.equal(optimizer.state[module.weight]["exp_avg"], moment)
    assert optimizer.param_groups[0]["lr"] == 0.05
    trainer.global_step = 8
    good.save(trainer, module, {})
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["good-step=8.pt"]


class Alarm(CollapseGuard):
    """Sees a sign after the first updates."""

    def __init__(self, last, **settings):
        super().__init__(**settings)
        sign = Sign(name="a sign", metric="reward", found="something", cause="something else")
        self.watch.update = lambda values: [sign] if self._steps_seen <= last else []


def trained(tmp_path, guard, **options):
    references = some_references(tmp_path / "references.jsonl", 6)
    data = make_data(references, **options)
    module, trainer = make_module(), make_trainer(tmp_path, guard, max_steps=3)
    sources = []

    class Sources(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            sources.append(set(batch.source.tolist()))

    trainer.callbacks.append(Sources())
    try:
        trainer.fit(module, data)
    finally:
        data.close()
    return module, trainer, sources


def test_the_teacher_is_brought_in_from_the_next_round_on(tmp_path):
    strict = RewardProgram(terms=[RewardTerm(name="correct", component=Never(), weight=1.0)])
    guard = Alarm(last=1, answer="teacher")
    _, trainer, sources = trained(tmp_path, guard, reward=strict)
    assert [Source.TEACHER in one for one in sources] == [False, True, True]
    assert guard.state_dict()["teacher_is_in"]


class Never(RewardComponent):
    """The student never succeeds, the teacher does."""

    def score(self, trajectory, references):
        return float(not trajectory.turns[0].completion.token_ids)


def test_going_back_ends_where_it_began_with_a_lower_learning_rate(tmp_path, caplog):
    torch.manual_seed(0)
    guard = Alarm(last=2, answer="go_back", max_returns=2, factor=0.5)
    start = weights_of(FullStudent("embedded:student").load_model())
    module, trainer, _ = trained(tmp_path, guard)
    assert guard.good.step == 0 and guard.state_dict()["returns"] == 2
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)
    # The third update was made from the start: Adam's first step moves each weight by the learning rate.
    moved = max(float((w - start[n]).abs().max()) for n, w in weights_of(module.student).items())
    assert 0 < moved < 1.1 * 1e-3 / 4
    assert "went back to the weights of update 0; the learning rate is 0.0005 now" in caplog.text
    with pytest.raises(MentorError, match="step 3: a sign"):
        trained(tmp_path, Alarm(last=3, answer="go_back", max_returns=2))


def weights_of(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_settings_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="answer is 'raise_kl' but the loss has no kl_weight"):
        fit(tmp_path, CollapseGuard(answer="raise_kl"), kl_weight=0.0)
    with pytest.raises(ConfigError, match="factor 1.5 must lie in"):
        CollapseGuard(factor=1.5)


@pytest.mark.parametrize("packed", [True, False])
def test_the_first_eighth_of_a_batch_is_the_batch_of_the_first_eighth(packed):
    def sample(prompt, own):
        mask = torch.tensor([False] * len(prompt) + [True] * len(own))
        ids = torch.tensor([*prompt, *own])
        return Sample(
            token_ids=ids,
            loss_mask=mask,
            sampling_logprobs=-ids.float() * mask,
            advantages=ids.float() * mask,
            prompt_length=len(prompt),
        )

    # 17 samples: an eighth is two. Packed, all of them share one prompt, as prompts with the same tools do.
    samples = [sample((1, 2, 3), (10 + i, 11 + i)) for i in range(17)]
    batch = packed_batch if packed else padded_batch
    some = beginning(batch(samples, pad_token_id=0, num_loss_tokens=1.0))
    wanted = batch(samples[:2], pad_token_id=0, num_loss_tokens=1.0)
    assert some.segments == wanted.segments
    for field in dataclasses.fields(wanted):
        if isinstance(value := getattr(wanted, field.name), torch.Tensor):
            assert getattr(some, field.name).tolist() == value.tolist(), field.name


@pytest.mark.parametrize("batch", [packed_batch, padded_batch])
def test_a_sample_without_trained_tokens_shifts_nothing_out_of_the_batch(batch):
    ids, zeros = torch.tensor([1, 2, 3, 4]), torch.zeros(4)
    masks = [torch.tensor([False, False, trained, trained]) for trained in (False, *[True] * 8)]
    samples = [
        Sample(token_ids=ids, loss_mask=mask, sampling_logprobs=zeros, advantages=zeros, prompt_length=2)
        for mask in masks
    ]
    some = beginning(batch(samples, pad_token_id=0, num_loss_tokens=1.0))
    assert (some.target_positions < some.input_ids.numel()).all()
