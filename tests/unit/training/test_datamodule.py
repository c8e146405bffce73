"""What a user gets wrong is said before training begins, and as far as possible before the student is loaded."""

import json

import pytest

from mentor_pl.engines.base import SamplingParams
from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.losses.sft import SFTLoss
from mentor_pl.students.full import FullStudent
from mentor_pl.training.context_room import Reading
from tests.unit.training.runs import make_data, make_module, make_trainer, read_jsonl, some_references


class Unloadable(FullStudent):
    """A student whose weights must not be asked for."""

    def load_model(self):
        raise AssertionError("the student was loaded")


def with_context(tokens):
    """A class of students with a context of so many tokens."""

    class Forgetful(FullStudent):
        def load_model(self):
            model = super().load_model()
            model.config.max_position_embeddings = tokens
            return model

    return Forgetful


@pytest.fixture
def references(tmp_path):
    return some_references(tmp_path / "references.jsonl", 4)


def fit(folder, references, *, data=None, module=None, student=Unloadable):
    the_data = make_data(references, **data or {})
    try:
        trainer = make_trainer(folder, max_steps=1)
        trainer.fit(make_module(student=student("embedded:student"), **module or {}), the_data)
    finally:
        the_data.close()
    return trainer


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"reward": None}, "data.reward is missing; rollouts need one"),
        (
            {"round": {"group_size": 1}},
            "data.round.group_size is 1; trajectories are compared within a group, so at least 2",
        ),
        ({"round": {"prompts_per_round": 0}}, "data.round.prompts_per_round is 0; it must be at least 1"),
        ({"round": {"steps": 3}}, "data.round.steps is 3 but a round has only 2 prompts"),
        ({"evaluation": {"train": "x"}}, "a split named 'train'"),
        ({"sampling": SamplingParams(temperature=0.0)}, "data.sampling.temperature is 0; .* nothing to compare"),
    ],
)
def test_settings_that_make_no_sense(references, data, message):
    with pytest.raises(ConfigError, match=message):
        make_data(references, **data)


def test_a_loss_that_cannot_imitate(tmp_path, references):
    with pytest.raises(ConfigError, match="'references' but model.loss is GRPOLoss.* SFTLoss"):
        fit(tmp_path, references, data={"train_on": "references", "reward": None})


def test_solutions_are_not_sampled_ahead(tmp_path, references):
    data = {"train_on": "references", "reward": None, "round": {"ahead": 1}}
    with pytest.raises(ConfigError, match=r"data.round.ahead is 1 but data.train_on is 'references'.* set it to 0"):
        fit(tmp_path, references, data=data, module={"loss": SFTLoss()})


def test_an_empty_reference_file(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataFileError, match=r"empty\.jsonl: expected at least one reference, found none"):
        fit(tmp_path, str(tmp_path / "empty.jsonl"))


def test_a_broken_reference_line(tmp_path, references):
    with open(references, "a") as file:
        file.write('{"id": "broken"\n')
    with pytest.raises(DataFileError, match=r"references\.jsonl:5: "):
        fit(tmp_path, references)


def test_a_reference_file_that_is_not_there(tmp_path):
    with pytest.raises(DataFileError, match="nowhere.jsonl"):
        fit(tmp_path, str(tmp_path / "nowhere.jsonl"))


def test_a_tool_that_no_backend_has(tmp_path, references):
    rows = read_jsonl(tmp_path / "references.jsonl")
    rows[2]["tools"] = ["add", "teleport"]
    (tmp_path / "references.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = (
        f"references.jsonl: reference '{rows[2]['id']}' offers the tool 'teleport', which none of its tool backends "
        "has; they have abs_value, add"
    )
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path, references)


# The four prompts take 52, 51, 53 and 58 tokens, with their solutions 109, 111, 84 and 118.


def test_prompts_longer_than_the_context(tmp_path, references, caplog):
    message = "2 of 4 prompts of 'train' do not fit into the student's context of 53 tokens, for example 'train-003-stepwise' with 59"
    with pytest.raises(ConfigError, match=f"{message}; shorten them, offer fewer tools, or set .* to 'skip'"):
        fit(tmp_path, references, student=with_context(53))
    trainer = fit(tmp_path, references, data={"reading": Reading(overlong_prompts="skip")}, student=with_context(53))
    assert trainer.train_dataloader.num_prompts == 2
    assert f"{message}; they are left out" in caplog.text
    with pytest.raises(ConfigError, match="4 of 4 prompts"):
        fit(tmp_path, references, data={"reading": Reading(overlong_prompts="skip")}, student=with_context(40))


def test_more_prompts_a_round_than_there_are(tmp_path, references):
    with pytest.raises(ConfigError, match="prompts_per_round is 5, but there are 4 prompts to train on"):
        fit(tmp_path, references, data={"round": {"prompts_per_round": 5}})


def test_solutions_longer_than_the_context(tmp_path, references, caplog):
    data = {"train_on": "references", "reward": None}
    imitation = {"loss": SFTLoss()}
    message = "2 of 4 solutions do not fit into the student's context of 110 tokens, for example 'train-003-stepwise' with 118"
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path, references, data=data, module=imitation, student=with_context(110))
    trainer = fit(
        tmp_path,
        references,
        data=data | {"reading": Reading(overlong_prompts="skip")},
        module=imitation,
        student=with_context(110),
    )
    assert [len(sample.token_ids) for sample in trainer.train_dataloader.samples] == [109, 84]
    assert f"{message}; they are left out" in caplog.text
