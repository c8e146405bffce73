"""What a later layer says of a list takes the place of what an earlier one said."""

from __future__ import annotations

from pathlib import Path

import pytest

from mentor_pl.cli.replacement import with_replacement
from mentor_pl.cli.training import MentorCLI, _Parser
from mentor_pl.configs import find_config
from mentor_pl.plugins import find_plugins
from mentor_pl.training.datamodule import MentorDataModule
from mentor_pl.training.module import MentorModule

pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI.s args parameter")

# As many terms as mentor.yaml has; there the second one is gated by `correct`, with a floor of 0.2.
TERMS = """\
terms:
  - {name: any_call, component: KnownTools, weight: 1.0}
  - {name: correct, component: Correct, weight: 0.5}
  - {name: known, component: KnownTools, weight: 0.1}
"""


def splits(tmp_path: Path, *arguments: str):
    find_plugins()
    cli = MentorCLI(
        MentorModule,
        MentorDataModule,
        args=[f"--config={find_config('mentor')}", f"--run_dir={tmp_path}", *arguments],
        run=False,
        parser_class=_Parser,
        save_config_callback=None,
        auto_configure_optimizers=False,
    )
    cli.datamodule.close()
    return cli.datamodule.splits


def reward(tmp_path: Path, *arguments: str):
    return splits(tmp_path, *arguments).train[0].reward


def test_a_reward_file_is_the_whole_reward(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(TERMS)
    for arguments in ([f"--data.reward={file}"], ["--data.reward", str(file)]):
        found = reward(tmp_path, *arguments)
        assert [(term.name, term.gate, term.gate_floor) for term in found.terms] == [
            *(("any_call", None, 0.0), ("correct", None, 0.0), ("known", None, 0.0))
        ]
        assert found.exits == ()


def test_a_list_of_terms_in_an_overlay_keeps_the_exits_and_inherits_no_gate(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    indented = "".join(f"    {line}\n" for line in TERMS.splitlines())
    overlay.write_text(f"data:\n  reward:\n{indented}")
    found = reward(tmp_path, f"--config={overlay}")
    assert [(term.name, term.gate) for term in found.terms] == [("any_call", None), ("correct", None), ("known", None)]
    assert [exit_.name for exit_ in found.exits] == ["unless Finished", "unless Answered", "unless TeacherUsedTools"]


def test_a_term_can_still_be_added(tmp_path: Path) -> None:
    found = reward(tmp_path, '--data.reward.terms+={"name": "more", "component": "KnownTools", "weight": 0.1}')
    assert [(term.name, term.gate) for term in found.terms] == [
        *(("correct", None), ("tool_match", "correct"), ("known_tools", None), ("more", None))
    ]


def test_environments_of_an_overlay_inherit_nothing(tmp_path: Path) -> None:
    """Neither the second item of a list nor a split takes what an earlier config said in its place."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(TERMS)
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(
        "data:\n  references: null\n  train:\n    - {references: a.jsonl, name: a, weight: 3}\n"
        "    - {references: b.jsonl, reward: mine.yaml}\n  evaluation:\n    x: {references: x.jsonl, like: a, reward: mine.yaml}\n"
        "    y: {references: y.jsonl, like: b}\n"
    )
    second.write_text(
        "data:\n  train: [{references: c.jsonl}, {references: d.jsonl}]\n  evaluation: {x: {references: x.jsonl, like: c}}\n"
    )
    both = [f"--config={first}", f"--config={second}"]
    a, b = splits(tmp_path, both[0]).train
    assert (a.name, a.environment.weight, b.name) == ("a", 3.0, "b")
    assert [term.name for term in b.reward.terms] == ["any_call", "correct", "known"]
    found = splits(tmp_path, *both, "--data.train+={references: e.jsonl, weight: 2}", "--data.evaluation.z=z.jsonl")
    assert [(s.name, s.environment.weight) for s in found.train] == [("c", 1.0), ("d", 1.0), ("e", 2.0)]
    assert [s.name for s in found.evaluation] == ["x", "z"]
    assert all([term.name for term in s.reward.terms][0] == "correct" for s in found.train + found.evaluation)


def test_other_arguments_stay_as_they_are() -> None:
    given = ["fit", "--trainer.max_steps=2", "--data.evaluation=null", "--print_config"]
    assert with_replacement(given) == given
