import itertools
import json
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoTokenizer

from mentor_pl.callbacks import graceful_stop
from mentor_pl.callbacks.export import ExportStudent
from mentor_pl.callbacks.graceful_stop import GracefulStop
from mentor_pl.callbacks.non_finite_guard import NonFiniteGuard
from mentor_pl.callbacks.recorder import TrajectoryRecorder
from mentor_pl.callbacks.summary import RunSummary, summary_table
from mentor_pl.cli.main import main
from mentor_pl.errors import MentorError
from mentor_pl.evaluation.sampling import EvaluationSampling
from mentor_pl.files.trajectories import iter_trajectories
from mentor_pl.losses.grpo import GRPOLoss
from tests.unit.training.runs import (
    Diary,
    make_data,
    make_module,
    make_trainer,
    read_jsonl,
    same,
    some_references,
    weights,
)


@pytest.fixture
def references(tmp_path):
    return some_references(tmp_path / "references.jsonl", 4)


# NonFiniteGuard ---------------------------------------------------------------------------------------------------


class Poisoned(GRPOLoss):
    """Gives a loss that is not a number in some steps."""

    def __init__(self, steps, value=math.nan):
        super().__init__(kl_weight=0.0)
        self.needs_all_tokens = True
        self.steps, self.value, self.calls = steps, value, 0

    def __call__(self, inputs):
        out = super().__call__(inputs)
        self.calls += 1
        poison = self.value if self.calls - 1 in self.steps else 0.0
        return type(out)(loss=out.loss + poison * inputs.logprobs.sum(), means=out.means, maxima=out.maxima)


class WeightsAfterEachStep(Callback):
    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer, pl_module):
        self.seen.append(weights(pl_module))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(weights(pl_module))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(tmp_path, references, caplog, value):
    seen, data = WeightsAfterEachStep(), make_data(references)
    trainer = make_trainer(tmp_path, seen, NonFiniteGuard(max_in_a_row=2), max_epochs=2, gradient_clip_val=1.0)
    trainer.fit(make_module(loss=Poisoned({1}, value)), data)
    data.close()
    start, first, second, third, _ = seen.seen
    assert not same(start, first)
    assert same(first, second)
    assert not same(second, third)
    assert all(torch.isfinite(w).all() for w in third.values())
    assert "step 1: the gradient is not finite; the update is skipped (1 in a row)" in caplog.text


def test_several_skipped_updates_in_a_row_end_the_run(tmp_path, references):
    seen, data = WeightsAfterEachStep(), make_data(references)
    trainer = make_trainer(tmp_path, seen, NonFiniteGuard(max_in_a_row=2), max_epochs=2)
    with pytest.raises(
        MentorError, match="2 weight updates in a row .* the last at step 2; lower model.optimizer's lr"
    ):
        trainer.fit(make_module(loss=Poisoned({1, 2})), data)
    data.close()
    assert all(torch.isfinite(w).all() for w in seen.seen[-1].values())


def test_skipped_updates_that_are_not_in_a_row_do_not(tmp_path, references):
    data = make_data(references)
    trainer = make_trainer(tmp_path, NonFiniteGuard(max_in_a_row=2), max_epochs=2)
    trainer.fit(make_module(loss=Poisoned({0, 2})), data)
    data.close()
    assert trainer.global_step == 4


# TrajectoryRecorder -----------------------------------------------------------------------------------------------


def test_recorded_trajectories_are_those_of_the_run_and_can_be_scored_again(tmp_path, references, capsys):
    diary, data = Diary(), make_data(references)
    make_trainer(tmp_path, diary, TrajectoryRecorder(every_n_rounds=2), max_epochs=2).fit(make_module(), data)
    data.close()
    path = tmp_path / "trajectories" / "train.rank0.jsonl"
    rows = read_jsonl(path)
    assert [row["step"] for row in rows] == [0] * 8 + [2] * 8  # the first and the third round, two groups of four each
    assert [row["reference_id"] for row in rows] == [name for r in (0, 2) for name, _ in diary.rounds[r]]
    assert [len(t.turns) > 0 for t in iter_trajectories(path)] == [True] * 16
    assert {tuple(row["scores"]) for row in rows} == {("correct", "tool_match")}

    program = tmp_path / "program.yaml"
    program.write_text(
        "terms:\n"
        "- {name: correct, component: {class_path: Correct, init_args: {judge: exact}}, weight: 0.7}\n"
        "- {name: tool_match, component: ToolMatch, weight: 0.3}\n"
    )
    main(["score", "--program", str(program), "--references", references, "--trajectories", str(path)])
    scored = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [row["reward"] for row in scored] == [row["reward"] for row in rows]
    assert [row["scores"] for row in scored] == [row["scores"] for row in rows]


def test_nothing_is_recorded_where_that_is_switched_off(tmp_path, references):
    data = make_data(references)
    make_trainer(tmp_path, TrajectoryRecorder(every_n_rounds=0), max_steps=1).fit(make_module(), data)
    data.close()
    assert not (tmp_path / "trajectories").exists()


# RunSummary, ExportStudent, and the four ways to evaluate -----------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train, with an evaluation at every epoch's end, a summary and an export; then validate, test and predict."""
    folder = tmp_path_factory.mktemp("run")
    references = some_references(folder / "references.jsonl", 4)
    evaluation = {
        split: some_references(folder / f"{split}.jsonl", 6, f"embedded:eval/{split}.jsonl")
        for split in ("id", "combo")
    }
    data = make_data(
        references, evaluation=evaluation, evaluation_sampling=EvaluationSampling(batch_size=3, max_problems=5)
    )
    module = make_module()
    callbacks = [TrajectoryRecorder(), RunSummary(), ExportStudent()]
    trainer = make_trainer(folder, *callbacks, max_steps=2, limit_val_batches=1.0, num_sanity_val_steps=1)
    trainer.fit(module, data)
    metrics = {"fit": dict(trainer.callback_metrics)}
    (metrics["validate"],) = _merged(trainer.validate(module, data, verbose=False))
    (metrics["test"],) = _merged(trainer.test(module, data, verbose=False))
    predictions = trainer.predict(module, data)
    data.close()
    return folder, module, metrics, predictions


def _merged(rows):
    """Lightning reports one row per loader; ours log all splits at the end, in one."""
    merged = {}
    for row in rows:
        merged |= row
    return [merged]


def test_the_summary_compares_before_after_and_teacher(run):
    folder, _, _, _ = run
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.pop("steps") == 2
    assert summary.pop("success_terms") == {"id": "correct", "combo": "correct"}
    assert summary.keys() == {"before", "after", "teacher"}
    for who in summary:
        assert summary[who].keys() == {"id", "combo"}
        assert {"accuracy", "tool_match", "tool_similarity", "unknown_tool_rate", "calls_per_task"} <= summary[who][
            "id"
        ].keys()
    assert summary["teacher"]["combo"]["accuracy"] == summary["teacher"]["combo"]["tool_similarity"] == 1.0
    assert summary["before"] != summary["after"]
    table = summary_table(summary)
    assert (len(table.columns), len(table.rows)) == (6, 2)
    narrow = summary_table(summary, width=40)  # a row per metric, of each split
    assert [column.header for column in narrow.columns] == ["split", "metric", "before", "after", "teacher"]
    assert len(narrow.rows) == 10


def test_a_run_resumed_behind_its_last_evaluation_does_not_evaluate_again(monkeypatch):
    evaluations = []
    monkeypatch.setattr("mentor_pl.callbacks.summary.validate_now", evaluations.append)
    module = SimpleNamespace(evaluation={"id": {"accuracy": 0.5}})
    evaluated = SimpleNamespace(global_step=8, is_global_zero=False, lightning_module=module)
    killed = RunSummary()
    killed.on_validation_end(evaluated, module)
    for step, expected in ((8, []), (9, [9])):
        resumed = RunSummary()
        resumed.load_state_dict(killed.state_dict())
        trainer = SimpleNamespace(global_step=step, is_global_zero=False, lightning_module=module)
        resumed.on_train_end(trainer, module)
        assert [trainer.global_step for trainer in evaluations] == expected


def test_fit_validate_test_and_the_summary_agree(run):
    folder, _, metrics, _ = run
    after = json.loads((folder / "summary.json").read_text())["after"]
    for split, scores in after.items():
        for name, value in scores.items():
            for stage, prefix in (("fit", "val"), ("validate", "val"), ("test", "test")):
                assert_close(float(metrics[stage][f"{prefix}/{split}/{name}"]), value, rtol=0, atol=2e-6)


def test_predictions_are_the_attempts_that_were_counted(run):
    folder, _, _, predictions = run
    rows = read_jsonl(folder / "trajectories" / "predict.rank0.jsonl")
    assert [row["split"] for row in rows] == ["id"] * 5 + ["combo"] * 5
    predicted = [t for split in predictions for batch in split for group in batch.groups for t in group.trajectories]
    assert [row["reference_id"] for row in rows] == [t.reference_id for t in predicted]
    after = json.loads((folder / "summary.json").read_text())["after"]
    tokens = [t.num_sampled_tokens for t in predicted]
    assert_close(sum(tokens[:5]) / 5, after["id"]["completion_tokens"], rtol=0, atol=1e-5)
    assert_close(sum(tokens[5:]) / 5, after["combo"]["completion_tokens"], rtol=0, atol=1e-5)


def test_the_exported_student_is_the_trained_one(run):
    folder, module, _, _ = run
    model = AutoModelForCausalLM.from_pretrained(folder / "student")
    assert same({n: v for n, v in model.state_dict().items()}, weights(module))
    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    assert tokenizer.chat_template == module.tokenizer.chat_template
    assert tokenizer.get_vocab() == module.tokenizer.get_vocab()


def test_what_is_switched_off_is_not_done(tmp_path, references):
    data = make_data(references, evaluation={"id": "embedded:eval/id.jsonl"})
    callbacks = [RunSummary(enabled=False), ExportStudent(enabled=False)]
    make_trainer(tmp_path, *callbacks, max_steps=1).fit(make_module(), data)
    data.close()
    assert not (tmp_path / "summary.json").exists() and not (tmp_path / "student").exists()


# GracefulStop -----------------------------------------------------------------------------------------------------


class Signals(Callback):
    """Sends this process signals once a number of steps is done."""

    def __init__(self, step, *numbers):
        self.step, self.numbers = step, numbers

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)


@pytest.fixture
def interruptible():
    """Ctrl-C as a terminal has it: what a shell starts in the background inherits "ignore"."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_where_it_is(tmp_path, references, caplog, interruptible, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    data = make_data(references)
    trainer = make_trainer(tmp_path, GracefulStop(), Signals(2, number), max_epochs=20)
    with pytest.raises(SIGTERMException) as stopped:
        trainer.fit(make_module(), data)
    data.close()
    assert stopped.value.code == 128 + number
    assert f"stopped at step 2; `--ckpt_path {tmp_path / 'last.ckpt'}` goes on from there" in caplog.text
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.mark.parametrize(("writes", "polls"), [(True, 40), (False, 10)])
def test_a_save_that_writes_is_waited_for_and_one_that_hangs_is_not(tmp_path, monkeypatch, writes, polls):
    """A poll takes a second here; a save is done after 40, and may take 1.5 before it writes, or 60."""
    clock = itertools.count()
    monkeypatch.setattr(graceful_stop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(graceful_stop, "_LONGEST_SAVE_S", 60.0)
    asked = []

    def done(_):
        asked.append(1)
        if writes or len(asked) < 9:
            (tmp_path / ".last.ckpt.1.partial").touch()
        else:
            (tmp_path / ".last.ckpt.1.partial").unlink(missing_ok=True)
        return len(asked) == 40

    graceful_stop._wait_while_writing(SimpleNamespace(checkpoint_callback=None, default_root_dir=tmp_path), done)
    assert len(asked) == polls


def test_a_second_interrupt_stops_at_once(tmp_path, references, interruptible):
    data = make_data(references)
    trainer = make_trainer(tmp_path, GracefulStop(), Signals(1, signal.SIGINT, signal.SIGINT), max_epochs=20)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer.fit(make_module(), data)
    data.close()
    assert trainer.global_step == 1
    assert not (tmp_path / "last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_long_name_of_a_column_is_broken_at_its_words():
    metrics = ("success", "score/calls", "tool_match", "tool_similarity", "unknown_tool_rate", "calls_per_task")
    summary = {who: {"shop": dict.fromkeys(metrics, 0.0)} for who in ("before", "after", "teacher")}
    headers = [column.header for column in summary_table(summary).columns]
    assert "calls per task" in headers and "score/calls" in headers
