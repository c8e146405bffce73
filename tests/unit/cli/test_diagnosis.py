"""The innermost value that does not fit is named, in one line, with what would fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from mentor_pl.cli.diagnosis import Group, diagnose
from mentor_pl.errors import UsageError
from mentor_pl.plugins import load_plugins
from mentor_pl.rewards.base import RewardComponent
from mentor_pl.rewards.program import RewardProgram
from mentor_pl.tools.base import ToolBackend
from tests.unit.cli.test_plugins import run
from tests.unit.test_plugins import install


@dataclass(frozen=True, kw_only=True)
class Limits:
    turns: int = 4
    mode: Literal["fast", "slow"] = "fast"


class Data:
    def __init__(
        self,
        tools: list[ToolBackend],
        reward: RewardProgram | None = None,
        limits: Limits | None = None,
        evaluation: dict[str, Path] | None = None,
        share: float = 0.5,
    ) -> None: ...


SCHEMA = {"data": Group(Data), "judge": RewardComponent | None, "seed": bool | int}


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    load_plugins("mentor_pl.rewards")
    load_plugins("mentor_pl.tools")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data.shar=1"], "data.shar: Data takes no 'shar' (did you mean 'share'?); it takes tools, reward, "),
        (["--data.share", "much"], "data.share is 'much'; expected a number"),
        (["--data.limits.turns=1.5"], "data.limits.turns is 1.5; expected an integer"),
        (["--data.limits", "{mode: medium}"], "data.limits.mode is 'medium'; expected fast or slow"),
        (["--data.limits", "[1]"], "data.limits is [1]; expected a Limits or null"),
        (["--data.evaluation", "[a]"], "data.evaluation is ['a']; expected a mapping or null"),
        (["--data.evaluation", "{a: 3}"], "data.evaluation.a is 3; expected a path"),
        (["--data", "3"], "data is 3; expected a mapping of keys to values"),
        (
            ["--data.tools", "[{class_path: PythonFunctions, init_args: {modul: x}}]"],
            "data.tools[0].init_args.modul: PythonFunctions (mentor-pl 0.1.0) takes no 'modul' (did you mean 'module'?)",
        ),
        (
            ["--data.tools", "[{class_path: PythonFunctions, module: x}]"],
            "data.tools[0].module: write it under init_args of PythonFunctions",
        ),
        (
            ["--data.tools", "[{class_path: PythonFuncions}]"],
            "data.tools[0]: there is no ToolBackend 'PythonFuncions' (did you mean 'PythonFunctions'?); installed are ",
        ),
        (["--data.tools", "[{class_path: no.such.Tool}]"], "data.tools[0]: there is no ToolBackend 'no.such.Tool'"),
        (["--data.tools", "[{class_path: json.JSONDecoder}]"], "data.tools[0]: json.JSONDecoder is no ToolBackend; "),
        (["--judge=Corect"], "judge: there is no RewardComponent 'Corect' (did you mean 'Correct'?); installed are"),
        (
            ["--judge=Correct", "--judge.tolerance=x"],
            "judge.init_args.tolerance is 'x'; expected a number",
        ),
        (
            ["--data.tools", "[{class_path: PythonFunctions}]"],
            "data.tools[0]: PythonFunctions needs module under init_args",
        ),
        (["--data.objective", "x"], "data.objective: 'objective' was renamed; write 'loss'"),
        (["--judge=ClippedSurrogate"], "judge: 'ClippedSurrogate' was renamed; write 'GRPOLoss'"),
        (["--data.reward=no/such.yaml"], "data.reward: there is no file no/such.yaml in "),
        (
            ["--data.reward", "{terms: [{name: a, component: Corect, weight: 1}]}"],
            "data.reward.terms[0].component: there",
        ),
    ],
)
def test_the_culprit_is_named(arguments: list[str], said: str) -> None:
    message = diagnose("the parser's own words", arguments, SCHEMA)
    assert message.startswith(said)
    assert "\n" not in message


def test_a_fault_in_a_file_is_told_with_its_file(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base.yaml", tmp_path / "overlay.yaml"
    base.write_text("data: {share: 1, limits: {turns: x}}\n")
    overlay.write_text("data: {share: 2}\n")
    arguments = [f"--config={base}", "--config", str(overlay), "--seed=1"]
    assert diagnose("", arguments, SCHEMA) == f"{base}: data.limits.turns is 'x'; expected an integer"
    assert diagnose("no fault", [*arguments, "--data.limits.turns=2"], SCHEMA) == "no fault"  # the later one counts


def test_a_program_of_a_config_is_read_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "mine.yaml").write_text("terms: [{name: a, component: Correct, weigth: 1}]")
    (tmp_path / "main.yaml").write_text("data: {reward: rewards/mine.yaml}")
    main = f"--config={tmp_path / 'main.yaml'}"
    assert "data.reward.terms[0].weigth: RewardTerm takes no 'weigth' (did you mean 'weight'?)" in diagnose(
        "", [main], SCHEMA
    )
    (tmp_path / "rewards" / "mine.yaml").write_text("terms: [{name: a, component: Correct, weight: 1}]")
    added = '--data.reward.terms+={"name": "b", "component": "Brvty", "weight": 1}'
    assert diagnose("", [main, added], SCHEMA).startswith("data.reward.terms[1].component: there is no RewardComponent")


def test_another_class_does_not_keep_the_arguments_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("judge: {class_path: Correct, init_args: {tolerance: 0.1}}")
    arguments = [f"--config={tmp_path / 'a.yaml'}", "--judge=ToolMatch"]
    assert diagnose("no fault", arguments, SCHEMA) == "no fault"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1\nb: {", "line 2 is no YAML: "),
        (b"- 1\n- 2\n", "holds a list; it must map keys to values"),
        (bytes(range(256)), "is no text: "),
        (b"1: 2", "has the key 1, which YAML reads as no text; write it in quotes"),
        (b"a: 2020-13-45", "is no YAML: month must be in 1..12"),
        (b"[" * 100_000, "is no YAML: "),
    ],
)
def test_a_config_that_cannot_be_read(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        diagnose("", [f"--config={path}"], SCHEMA)
    assert said in str(refused.value) and str(path) in str(refused.value)
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        diagnose("", [f"--config={tmp_path}"], SCHEMA)


def test_a_plugin_that_failed_to_load_is_said_to_have_failed(tmp_path: Path) -> None:
    install(tmp_path, "faulty-reward", "Broken = broken:Broken", "import no_such_library")
    code = """
from mentor_pl.cli.diagnosis import diagnose
from mentor_pl.rewards.base import RewardComponent
print(diagnose("", ["--judge=Broken"], {"judge": RewardComponent}))
"""
    assert run(code, tmp_path).stdout == (
        "judge: the plugin 'Broken' (faulty-reward 1.0) failed to load: "
        "ModuleNotFoundError: No module named 'no_such_library'\n"
    )


def test_what_the_walk_does_not_find_is_the_parsers_message_in_one_line() -> None:
    assert diagnose("a\n  b", [], SCHEMA) == "a b"
    long: Any = diagnose("x" * 1000, [], SCHEMA)
    assert len(long) == 400
