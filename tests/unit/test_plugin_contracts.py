"""Whatever a plugin raises, or gives in place of what it promised, is one error that names it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch

from mentor_pl.advantages import GroupRewards, turn_advantages
from mentor_pl.advantages.base import AdvantageEstimator
from mentor_pl.engines.base import SamplingParams
from mentor_pl.engines.checked_session import checked_session
from mentor_pl.environments.base import Environment, references_of
from mentor_pl.errors import EngineError, MentorError, PluginError, StudentError
from mentor_pl.losses.base import Loss, LossInputs, LossOutput
from mentor_pl.losses.guided import guided
from mentor_pl.messages import Message
from mentor_pl.plugins import keeping_contract
from mentor_pl.students.base import loaded_model, loaded_tokenizer
from mentor_pl.tools.results import MAX_CHARS, shown
from mentor_pl.tools.toolbox import ToolBox
from mentor_pl.trajectory import Completion, StopReason, Trajectory, Turn
from tests.unit.losses.given import inputs


def give(value: Any) -> Any:
    """Raise an exception, give anything else."""
    if isinstance(value, Exception):
        raise value
    return value


class Odd:
    """Stands for a plugin of any kind: each of its methods gives one value."""

    per_prompt = tells_state = False
    reads_fields = ()

    def __init__(self, value: Any) -> None:
        self.value = value

    def read(self, **_: Any) -> Any:
        return give(self.value)

    load_model = load_tokenizer = per_turn = read

    @property
    def specs(self) -> Any:
        return give(self.value)

    @contextmanager
    def session(self, *_: Any) -> Any:
        yield give(self.value)

    def close(self) -> None:
        give(self.value)


BROKEN = RuntimeError("boom")


def test_what_is_raised_names_the_plugin_and_the_part() -> None:
    with (
        pytest.raises(EngineError, match=r"Odd\.sync raised RuntimeError: boom"),
        keeping_contract(Odd(0), ".sync", EngineError),
    ):
        raise BROKEN
    with pytest.raises(MentorError, match="own words"), keeping_contract(Odd(0)):
        raise StudentError("own words")


@pytest.mark.parametrize("loaded", [loaded_model, loaded_tokenizer])
@pytest.mark.parametrize(
    ("value", "says"), [(BROKEN, "raised RuntimeError: boom"), (None, "gave None"), ("x", "gave 'x'")]
)
def test_a_loader(loaded: Any, value: Any, says: str) -> None:
    with pytest.raises(StudentError, match=rf"Odd\.load_(model|tokenizer) {says}"):
        loaded(Odd(value))


@pytest.mark.parametrize(
    ("value", "says"),
    [(BROKEN, "raised RuntimeError: boom"), (("x",), "specs holds 'x'"), (None, "raised TypeError")],
)
def test_a_tool_backends_specs(value: Any, says: str) -> None:
    with pytest.raises(PluginError, match=f"Odd.*{says}"):
        ToolBox([Odd(value)])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("value", "says"), [(BROKEN, r"Odd\.session raised RuntimeError: boom"), (None, r"Odd\.session gave None")]
)
def test_an_engines_session(value: Any, says: str) -> None:
    with pytest.raises(EngineError, match=says), checked_session(Odd(value), SamplingParams(), ()):  # type: ignore[arg-type]
        pytest.fail("opened")


@pytest.mark.parametrize(
    ("value", "says"),
    [(BROKEN, "raised RuntimeError"), (None, "raised TypeError"), ((), "gave 'nothing'"), ((1,), "gave 1;")],
)
def test_an_environments_references(value: Any, says: str) -> None:
    class Broken(Environment):
        def read(self, **_: Any) -> Any:
            return give(value)

    with pytest.raises(PluginError, match=f"Broken.read {says}"):
        references_of(Broken(), max_bad_lines=0)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (BROKEN, "raised RuntimeError: boom"),
        (None, "raised TypeError"),
        ([[0.5]], "to 2 trajectories"),
        ([[0.5], [0.5, 0.5]], "each turn needs a finite number"),
        ([[0.5], [float("nan")]], "each turn needs a finite number"),
    ],
)
def test_an_advantage_estimator(value: Any, says: str) -> None:
    turn = Turn(completion=Completion(), message=Message(role="assistant", content="1"))
    attempt = Trajectory(reference_id="r", turns=(turn,), stop_reason=StopReason.ANSWERED)
    group = GroupRewards(
        rewards=torch.tensor([0.0, 1.0]),
        scores=torch.tensor([[0.0], [1.0]]),
        weights=torch.tensor([1.0]),
        trajectories=(attempt, attempt),
        references=(),
    )

    class Estimator(AdvantageEstimator):
        def __call__(self, group: GroupRewards) -> Any:
            raise NotImplementedError

        def per_turn(self, group: GroupRewards) -> Any:
            return give(value)

    with pytest.raises(PluginError, match=f"Estimator .*{says}"):
        turn_advantages(Estimator(), group)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (BROKEN, "raised RuntimeError: boom"),
        (None, "a loss gives a LossOutput"),
        (LossOutput(loss=torch.zeros(2)), "must be a scalar tensor"),
        (LossOutput(loss=torch.tensor(0.0), means={"clip": 0.5}), "0.5 for 'clip' of its means"),  # type: ignore[dict-item]
    ],
)
def test_a_loss(output: Any, says: str) -> None:
    class Broken(Loss):
        def __call__(self, inputs: LossInputs) -> Any:
            return give(output)

    own = torch.zeros(1, dtype=torch.bool)
    with pytest.raises(PluginError, match=f"Broken .*{says}"):
        guided(Broken(), inputs([0.0], [1.0]), of_teacher=own, imitated=own, num_imitated_tokens=1.0, shaping=0.1)


def test_a_text_from_outside_is_cut_and_such_as_a_file_can_hold() -> None:
    assert shown("plain") == "plain"
    assert "\ud800" not in shown("half \ud800")
    assert len(shown("x" * 50_000_000)) < MAX_CHARS + 200
