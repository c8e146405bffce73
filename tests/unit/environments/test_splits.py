"""What an environment does not name itself, it takes from another; what has two meanings is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from mentor_pl.environments import Environment, Split, resolve_splits, training_environments
from mentor_pl.environments.splits import check_tools
from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.finished import Finished
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.rollout.user import User
from mentor_pl.tools.declared import DeclaredTools
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox


def reward(name: str) -> RewardProgram:
    return RewardProgram(terms=[RewardTerm(name=name, component=Finished(), weight=1.0)])


SHOP, MATHS, DEFAULT = reward("shop"), reward("maths"), reward("default")


def resolved(train: Sequence[Environment], evaluation=None, **defaults) -> dict[str, Split]:
    splits = resolve_splits(train, evaluation, Environment(**{"tools": [DeclaredTools()]} | defaults))
    return {split.name: split for split in splits.train + splits.evaluation}


def test_a_split_takes_what_it_does_not_name_from_the_only_training_environment() -> None:
    limits = RolloutLimits(max_turns=3)
    shop = Environment("shop.jsonl", tools=[DeclaredTools()], reward=SHOP, final_tools=["submit"], limits=limits)
    own = Environment("qa.jsonl", tools=[DeclaredTools()], reward=MATHS)
    found = resolved([shop], {"plain": "held_out.jsonl", "qa": own}, reward=DEFAULT)
    assert list(found) == ["train", "plain", "qa"]
    assert found["plain"].world == found["train"].world and found["plain"].reward is SHOP
    assert found["plain"].world.toolbox.final_tools == {"submit"}
    assert found["qa"].reward is MATHS and found["qa"].world.limits is limits
    assert found["qa"].world.toolbox is not found["train"].world.toolbox
    assert not found["qa"].world.toolbox.final_tools  # they go along with the tools


def test_the_short_form_is_one_environment_with_the_defaults() -> None:
    environments = training_environments(Environment("train.jsonl"), None)
    found = resolved(environments, {"id": "id.jsonl"}, reward=DEFAULT, final_tools=["submit"])
    assert found["train"].reward is found["id"].reward is DEFAULT
    assert found["train"].world.toolbox is found["id"].world.toolbox
    assert found["train"].environment.source == "train.jsonl" and not found["train"].marked


def two(**shop: object) -> list[Environment]:
    return [Environment("data/shop.v2.jsonl", **shop), Environment("maths.jsonl", reward=MATHS, weight=3)]  # type: ignore[arg-type]


def test_with_two_a_split_says_which_it_is_like() -> None:
    found = resolved(
        two(reward=SHOP), {"s": Environment("s.jsonl", like="shop"), "m": Environment("m.jsonl", like="maths")}
    )
    assert list(found) == ["shop", "maths", "s", "m"]
    assert found["s"].reward is SHOP and found["m"].reward is MATHS
    assert found["shop"].marked and not found["s"].marked


def test_with_two_and_no_like_the_defaults_count() -> None:
    found = resolved(two(), {"s": "s.jsonl"}, reward=DEFAULT)
    assert found["shop"].reward is found["s"].reward is DEFAULT and found["maths"].reward is MATHS


class Puzzles(Environment):
    """Makes its own references."""

    def __init__(self, count: int = 2, **settings: object) -> None:
        super().__init__(tools=[], reward=SHOP, **settings)  # type: ignore[arg-type]
        self.count = count

    def read(self, *, max_bad_lines: int = 0) -> list[Reference]:
        return []


def test_a_class_brings_its_own_and_is_called_by_its_name() -> None:
    found = resolved([Puzzles(), Environment("maths.jsonl")], {"puzzles": Puzzles(count=5)}, reward=DEFAULT, tools=[])
    assert list(found) == ["Puzzles", "maths", "puzzles"]
    assert found["puzzles"].reward is SHOP


@pytest.mark.parametrize(
    ("train", "evaluation", "message"),
    [
        (two(reward=SHOP), {"s": "s.jsonl"}, "data.evaluation.s has no reward, and there are several .*: shop, maths; say `like: shop`"),
        (two(), {"s": Environment("s.jsonl", like="shp")}, "`like` is 'shp', which is no training environment; there are shop, maths"),
        ([Environment("a.jsonl", like="b")], None, "data.references: `like` is 'b', which only evaluation splits may say"),
        ([Environment("x/a.jsonl"), Environment("y/a.jsonl")], None, "two environments called 'a'; give each a `name`"),
        ([Environment()], None, "data.references names no references"),
        ([Environment("a.jsonl"), Environment()], None, r"data.train\[1\] names no references"),
        ([], {"s": Environment(reward=SHOP)}, "data.evaluation.s names no references"),
        ([], {2024: "s.jsonl"}, "the split 2024, which YAML reads as no text"),
        ([], {"train": "s.jsonl"}, "a split named 'train'"),
        ([], {"s": Environment("s.jsonl", name="x")}, "data.evaluation.s: `name` is for training environments"),
        ([], {"s": Environment("s.jsonl", weight=2)}, "data.evaluation.s: `weight` is for training environments"),
    ],
)  # fmt: skip
def test_what_is_missing_or_has_two_meanings(train, evaluation, message) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved(train, evaluation)


def test_tools_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="a.jsonl has no tools, and data.tools is missing"):
        resolved([Environment("a.jsonl")], tools=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 0}, "weight is 0; it must be above 0"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"final_tools": ["submit"]}, "final_tools submit but no tools"),
    ],
)
def test_values_that_cannot_be(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Environment("a.jsonl", **settings)


def test_both_forms_at_once() -> None:
    with pytest.raises(ConfigError, match="data.references and data.train are both given"):
        training_environments(Environment("a.jsonl"), [Environment("b.jsonl")])
    with pytest.raises(ConfigError, match="data.train is empty"):
        training_environments(Environment(), [])


def row(reference_id: str, *tools: str) -> str:
    tool = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in tools]
    return json.dumps({"id": reference_id, "prompt": f"{reference_id}?", "answer": "1", "tools": tool}) + "\n"


def test_references_are_read_once_and_carry_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "shop.jsonl"
    file.write_text(row("a", "order") + row("b", "order"))
    shop = Environment(str(file), reward=SHOP)
    found = resolved([shop, Environment("maths.jsonl")], {"held_out": Environment(str(file), like="shop")})
    assert [p[0].environment for p in found["shop"].prompts()] == ["shop", "shop"]
    assert [p[0].environment for p in found["held_out"].prompts()] == ["", ""]
    before = found["shop"].digest
    file.write_text(row("a", "order") + row("c", "order"))
    assert found["shop"].digest == before  # read once
    assert resolved([shop])["train"].digest != before


def test_a_tool_that_no_backend_has(tmp_path: Path) -> None:
    file = tmp_path / "shop.jsonl"
    file.write_text(row("a", "order"))
    with pytest.raises(
        ConfigError, match="shop.jsonl: reference 'a' offers the tool 'order', which none of its tool backends"
    ):
        resolved([Environment(str(file))], tools=[])["train"].prompts()
    with pytest.raises(DataFileError, match=r"nowhere\.jsonl"):
        resolved([Environment("nowhere.jsonl")])["train"].prompts()


def test_backends_are_closed_once() -> None:
    class Counted(DeclaredTools):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    shared, own = Counted(), Counted()
    train = [Environment("a.jsonl"), Environment("b.jsonl", tools=[own])]
    splits = resolve_splits(
        train, {"c": "c.jsonl"}, Environment(tools=[shared], reward=RewardProgram(terms=SHOP.terms))
    )
    splits.close()
    assert (shared.closed, own.closed) == (1, 1)


class ReadsWorld(DeclaredTools):
    reads_fields = ("world",)


class ReadsWish(User):
    reads_fields = ("wish",)

    def reply(self, reference: Reference, messages: Sequence[Message]) -> str | None:
        return None


def test_prompts_of_one_wording_are_several_where_tools_or_user_read_what_differs(tmp_path: Path) -> None:
    base = {"prompt": "Hello", "answer": "", "tools": []}
    rows = [{"world": 1, "wish": "a", "hint": n} for n in (0, 1)] + [
        {"world": 2, "wish": "a"},
        {"world": 1, "wish": "b"},
    ]
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps({"id": str(n), **base, **row}) + "\n" for n, row in enumerate(rows)))
    environment = Environment(str(file), tools=[ReadsWorld()], reward=SHOP, user=ReadsWish())
    prompts = resolved([environment])["train"].prompts()
    assert [[one.reference_id for one in prompt] for prompt in prompts] == [["0", "1"], ["2"], ["3"]]


def test_a_final_tool_that_no_backend_has_is_refused() -> None:
    arithmetic = PythonFunctions("mentor_pl.tools.arithmetic", functions=["add"])
    with closing(ToolBox([arithmetic], final_tools=["submitt"])) as fixed:
        with pytest.raises(
            ConfigError, match="qa.jsonl: final_tools names 'submitt', which none .* they have add; mend"
        ):
            check_tools([], source="qa.jsonl", toolbox=fixed)
    check_tools(
        [], source="qa.jsonl", toolbox=ToolBox([DeclaredTools()], final_tools=["submit"])
    )  # the prompt's to say
