"""Rounds that are sampled while the one before is trained on, by an engine in this process that keeps a copy of the weights."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.testing import assert_close

from mentor_pl.engines.base import EngineSession
from mentor_pl.engines.hf_generate import HFGenerateEngine
from mentor_pl.errors import ConfigError, EngineError
from mentor_pl.losses import TruncatedImportanceSampling
from mentor_pl.students.full import FullStudent
from tests.unit.training.own_weights import OwnWeights
from tests.unit.training.runs import Diary, make_data, make_module, make_trainer, same, some_references, weights

pytestmark = [
    pytest.mark.integration,  # whole runs
    pytest.mark.timeout(300),  # a rollout that nobody ends would go on for ever
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]

ROUNDS = 4  # in an epoch


class Notes(Diary):
    """Notes every round's staleness and versions, too."""

    def __init__(self):
        super().__init__()
        self.staleness = []
        self.versions = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if batch.scored_groups:
            self.staleness.append(batch.rollout_metrics["staleness"])
            trajectories = [t for group in batch.scored_groups for t in group.group.trajectories]
            self.versions.append({turn.completion.policy_version for t in trajectories for turn in t.turns})

    @property
    def prompts(self):
        return [[name for name, _ in trajectories] for trajectories in self.rounds]


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return some_references(tmp_path_factory.mktemp("data") / "references.jsonl", 2 * ROUNDS)


def fit(folder, references, *callbacks, engine=None, data=None, module=None, ckpt_path=None, **trainer):
    """Train for two epochs of four rounds; a checkpoint after every step is kept."""
    notes = Notes()
    checkpoints = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    options = {"engine": engine or OwnWeights(), "correction": TruncatedImportanceSampling()} | (module or {})
    the_module, the_data = make_module(**options), make_data(references, **{"round": {"ahead": 1}} | (data or {}))
    the_trainer = make_trainer(
        folder, notes, checkpoints, *callbacks, **{"max_epochs": 2, "enable_checkpointing": True} | trainer
    )
    try:
        the_trainer.fit(the_module, the_data, ckpt_path=ckpt_path)
    finally:
        assert not [t for t in threading.enumerate() if t.name.startswith("rollout")]  # before anybody closes the data
        the_data.close()
    return notes, weights(the_module)


@pytest.fixture(scope="module")
def run(tmp_path_factory, references):
    folder = tmp_path_factory.mktemp("run")
    return *fit(folder, references), folder


def test_a_round_has_the_weights_that_the_one_before_began_with(run):
    notes, trained, _ = run
    assert notes.staleness == [0, 1, 1, 1, 0, 1, 1, 1]
    assert notes.versions == [{0}, {0}, {1}, {2}, {4}, {4}, {5}, {6}]
    assert not same(trained, make_module().loader.load_model().state_dict())


def test_one_seed_gives_one_run(tmp_path, run, references):
    again, trained = fit(tmp_path, references)
    assert again.rounds == run[0].rounds
    assert again.losses == run[0].losses
    assert same(trained, run[1])


def test_weights_that_stay_make_the_run_of_no_rounds_ahead(tmp_path, references):
    still = {"optimizer": functools.partial(torch.optim.AdamW, lr=0.0)}
    ahead, _ = fit(tmp_path / "ahead", references, module=still, max_epochs=1)
    plain, _ = fit(tmp_path / "plain", references, module=still, data={"round": {}}, max_epochs=1)
    assert plain.staleness == [0] * ROUNDS
    assert ahead.rounds == plain.rounds
    assert_close(ahead.losses, plain.losses, rtol=0, atol=0)


@pytest.mark.parametrize("step", [2, 4])  # with a round under way, and between two epochs
def test_a_resumed_run_keeps_the_plan(tmp_path, run, references, step):
    """The round under way is sampled again, with the weights that there are then."""
    whole, _, folder = run
    resumed, _ = fit(tmp_path, references, ckpt_path=str(folder / f"step={step}.ckpt"))
    assert resumed.prompts == whole.prompts[step:]
    assert resumed.staleness == ([0, 1, 0, 1, 1, 1] if step == 2 else [0, 1, 1, 1])
    assert (resumed.rounds == whole.rounds[step:]) == (step == 4)


def test_a_round_of_several_steps(tmp_path, references):
    notes, _ = fit(tmp_path, references, data={"round": {"steps": 2, "passes": 2, "ahead": 1}}, max_steps=10)
    assert notes.staleness == [0, 4, 4]
    assert len(notes.losses) == 10


class WaitForNext(Callback):
    """Makes no step before the next round's rollout has begun."""

    def __init__(self, engine):
        self.engine = engine
        self.waited = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx + 1 < ROUNDS:
            deadline = time.monotonic() + 60
            while self.engine.sessions < batch_idx + 2:
                assert time.monotonic() < deadline, "the next round's rollout waits for this step"
                time.sleep(0.01)
            self.waited += 1


def test_the_next_rollout_goes_on_during_a_step(tmp_path, references):
    engine = OwnWeights()
    waiting = WaitForNext(engine)
    fit(tmp_path, references, waiting, engine=engine, max_epochs=1)
    assert (waiting.waited, engine.sessions) == (ROUNDS - 1, ROUNDS)


def test_no_rollout_is_begun_that_the_run_does_not_need(tmp_path, references):
    engine = OwnWeights()
    fit(tmp_path, references, engine=engine, max_steps=2)
    assert engine.sessions == 2


def test_an_evaluation_within_an_epoch_waits_for_the_rollout(tmp_path, run, references):
    evaluated, trained = fit(
        tmp_path, references, data={"evaluation": {"again": references}}, val_check_interval=2, limit_val_batches=None
    )
    assert evaluated.rounds == run[0].rounds
    assert same(trained, run[1])


class Endless(OwnWeights):
    """The third rollout never ends by itself."""

    @contextlib.contextmanager
    def session(self, sampling, stop_token_ids):
        with super().session(sampling, stop_token_ids) as session:
            yield session if self.sessions < 3 else _EndlessSession(session)


class _EndlessSession(EngineSession):
    def __init__(self, session):
        self._session = session

    def submit(self, requests):
        self._session.submit(requests)

    def poll(self, interrupt=None):
        while not interrupt():
            time.sleep(0.01)
        return []

    def release(self, row):
        pass


class Break(Callback):
    """Ends the run in some way, while the third round is sampled."""

    def __init__(self, how):
        self.how = how

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1:
            self.how(trainer, pl_module)


def be_asked_to_end(trainer, module):
    module.stop_request.leave(15)


def be_interrupted(trainer, module):
    """Ctrl-C, where nobody has taken it over, while the rollout is waited for."""
    threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()


def stop_early(trainer, module):
    trainer.should_stop = True


def fail(trainer, module):
    raise ZeroDivisionError


@pytest.mark.parametrize(("how", "error"), [(be_asked_to_end, SIGTERMException), (fail, ZeroDivisionError)])
def test_a_run_that_ends_takes_its_rollout_with_it(tmp_path, references, how, error):
    with pytest.raises(error):
        fit(tmp_path, references, Break(how), engine=Endless())


def test_an_interrupted_run_takes_its_rollout_with_it(tmp_path, references):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored
    try:
        with pytest.raises(SystemExit):
            fit(tmp_path, references, Break(be_interrupted), engine=Endless())
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning has switched it off


def test_a_run_that_stops_early_takes_its_rollout_with_it(tmp_path, references):
    notes, _ = fit(tmp_path, references, Break(stop_early), engine=Endless())
    assert len(notes.rounds) == 2


class Broken(OwnWeights):
    def session(self, sampling, stop_token_ids):
        if self.sessions == 2:
            raise EngineError("the server is gone")
        return super().session(sampling, stop_token_ids)


def test_an_error_of_the_rollout_ends_the_run(tmp_path, references):
    with pytest.raises(EngineError, match="the server is gone"):
        fit(tmp_path, references, engine=Broken())


class Deaf(OwnWeights):
    """Keeps its first weights."""

    def sync(self, model, version):
        if not version:
            super().sync(model, version)


@pytest.mark.parametrize(("rounds_ahead", "versions"), [(0, "1 to 1"), (1, "1 to 2")])
def test_weights_that_are_too_old_are_refused(tmp_path, references, rounds_ahead, versions):
    with pytest.raises(
        EngineError, match=f"Deaf sampled with the weights of update 0 to 0, but those of {versions} were"
    ):
        fit(tmp_path, references, engine=Deaf(), data={"round": {"ahead": rounds_ahead}})


class Unloadable(FullStudent):
    """A student whose weights must not be asked for."""

    def load_model(self):
        raise AssertionError("the student was loaded")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            {"engine": HFGenerateEngine()},
            "round.ahead is 1 but model.engine is HFGenerateEngine, which samples with the",
        ),
        ({"correction": None}, "round.ahead is 1, .* set model.correction to TruncatedImportanceSampling"),
    ],
)
def test_what_rounds_ahead_need(tmp_path, references, module, message):
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path, references, module={"student": Unloadable("embedded:student")} | module)
