from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from mentor_pl.cli.main import main as mentor_pl
from mentor_pl.cli.score import main
from mentor_pl.rewards.program import RewardProgram
from tests.unit.rewards.official_cases import PRESETS, reference_row, rows, trajectory_row

CONFIGS = Path(__file__).parents[3] / "configs" / "rewards"


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    references = write(tmp_path / "references.jsonl", [reference_row(row) for row in rows()])
    trajectories = write(tmp_path / "trajectories.jsonl", [trajectory_row(row) for row in rows()])
    return ["--references", str(references), "--trajectories", str(trajectories)]


def program(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "program.yaml"
    path.write_text(text)
    return ["--program", str(path)]


def mentor() -> str:
    return (CONFIGS / "mentor.yaml").read_text()


@pytest.mark.parametrize("setting", PRESETS)
def test_one_row_for_each_trajectory_in_order(setting: str, files: list[str], tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    main(["--program", str(CONFIGS / f"{PRESETS[setting]}.yaml"), *files, "--output", str(output)])
    scored = read(output)
    assert [row["reference_id"] for row in scored] == [str(row["id"]) for row in rows()]
    assert [row["reward"] for row in scored] == pytest.approx([row["scores"][setting] for row in rows()], abs=1e-6)


def test_a_row_holds_every_terms_score_and_the_exit(files: list[str], tmp_path: Path) -> None:
    output = tmp_path / "scores.jsonl"
    main(["--program", str(CONFIGS / "mentor.yaml"), *files, "--output", str(output)])
    by_id = {row["reference_id"]: row for row in read(output)}
    assert by_id["9"] == {
        "reference_id": "9",
        "sample_index": 0,
        "reward": 0.1,
        "scores": {"correct": 0.0, "tool_match": 0.0, "known_tools": 1.0},
        "exit": None,
    }
    assert (by_id["18"]["reward"], by_id["18"]["exit"]) == (0.0, "unless Finished")
    assert (by_id["339"]["reward"], by_id["339"]["exit"]) == (0.1, "unless TeacherUsedTools")


def test_several_attempts_at_one_prompt_are_scored_for_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = rows()[0], rows()[0] | {"messages": [{"role": "assistant", "content": "\\boxed{8}"}]}
    references = write(tmp_path / "r.jsonl", [reference_row(right)])
    attempts = [trajectory_row(row) | {"sample_index": i} for i, row in enumerate([wrong, right, wrong])]
    trajectories = write(tmp_path / "t.jsonl", attempts)
    main(
        [
            "--program",
            str(CONFIGS / "mentor.yaml"),
            "--references",
            str(references),
            "--trajectories",
            str(trajectories),
        ]
    )
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["sample_index"], row["reward"]) for row in printed] == [(0, 0.1), (1, 1.1), (2, 0.1)]


def test_explain_shows_terms_gate_exit_answers_and_calls(
    files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    main(["--program", str(CONFIGS / "mentor.yaml"), *files, "--explain", "45"])
    shown = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "45, sample 0: reward 0.16",
        "correct Correct 0 0.7 0",
        "tool_match ToolMatch 1 0.3 correct = 0, floor 0.2 0.06",
        "known_tools KnownTools 1 0.1 0.1",
        "reward 0.16",
        "answer: 275",
        "right answer: 1,234",
        "student calls: power(a=72, b=27), divide(a=19, b=59), power(a=88, b=58)",
        "teacher calls: power(), divide()",
    ):
        assert line in shown, shown
    main(["--program", str(CONFIGS / "mentor.yaml"), *files, "--explain", "18"])
    shown = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert (
        "exit unless Finished taken 0" in shown and "tool_match ToolMatch 1 0.3 correct = 0, floor 0.2 (0.06)" in shown
    )


def test_what_a_student_wrote_is_not_read_as_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references = write(tmp_path / "r.jsonl", [reference_row(rows()[0])])
    text = {"role": "assistant", "content": "\\boxed{[red]7[/bold]}"}
    trajectories = write(tmp_path / "t.jsonl", [trajectory_row(rows()[0]) | {"messages": [text]}])
    arguments = ["--references", str(references), "--trajectories", str(trajectories), "--explain", "0"]
    main(["--program", str(CONFIGS / "mentor.yaml"), *arguments])
    assert "[red]7[/bold]" in capsys.readouterr().out


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        mentor_pl(["score", *arguments])
    assert stopped.value.code in (1, 2)
    return capsys.readouterr().err


def test_a_misspelt_plugin_is_refused_with_the_known_ones(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refusal(program(mentor().replace("KnownTools", "KnownTool"), tmp_path) + files, capsys)
    assert (
        "terms[2].component: there is no RewardComponent 'KnownTool' (did you mean 'KnownTools'?); installed are"
        in text
    )
    assert "ToolMatch (mentor-pl " in text and text.count("\n") == 1


def test_a_misspelt_argument_is_refused_with_the_known_ones(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refusal(program(mentor().replace("mode: exact", "mod: exact"), tmp_path) + files, capsys)
    assert "takes no 'mod' (did you mean 'mode'?); it takes mode, ignore_unknown, count_failed" in text
    text = refusal(program(mentor().replace("gate_floor", "gatefloor"), tmp_path) + files, capsys)
    assert "RewardTerm takes no 'gatefloor' (did you mean 'gate_floor'?); it takes name, component, weight," in text


def test_a_contradiction_in_the_program_is_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refusal(program(mentor().replace("gate: correct", "gate: right"), tmp_path) + files, capsys)
    assert text.startswith(
        "mentor-pl: ConfigError: reward term 'tool_match': its gate 'right' is not a term; the terms are correct, tool_match, known_tools"
    )


def test_a_trajectory_without_its_reference_is_refused_and_nothing_written(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "references.jsonl", [reference_row(row) for row in rows()[:2]])
    output = tmp_path / "scores.jsonl"
    text = refusal(["--program", str(CONFIGS / "mentor.yaml"), *files, "--output", str(output)], capsys)
    assert "trajectory 3 names the reference '6', which " in text
    assert not output.exists()


def test_explaining_what_is_not_there_is_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--program", str(CONFIGS / "mentor.yaml"), *files, "--explain"]
    assert "there is no reference with the id 'nobody' to explain" in refusal([*arguments, "nobody"], capsys)
    write(tmp_path / "trajectories.jsonl", [trajectory_row(row) for row in rows()[:2]])
    assert "no trajectory names the reference '6'; there is nothing to explain" in refusal([*arguments, "6"], capsys)


class Model:
    """Takes its reward as a LightningModule does: `reward: RewardProgram`, with `reward: rewards/mine.yaml` in its config."""

    def __init__(self, reward: RewardProgram) -> None:
        self.reward = reward


def test_a_program_is_named_relative_to_the_config_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "mine.yaml").write_text(mentor())
    (tmp_path / "main.yaml").write_text("model:\n  reward: rewards/mine.yaml\n")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Model, "model")
    config = ["--config", str(tmp_path / "main.yaml")]
    reward = parser.instantiate(parser.parse_args(config)).model.reward
    assert [(t.name, type(t.component).__name__) for t in reward.terms] == [
        ("correct", "Correct"),
        ("tool_match", "ToolMatch"),
        ("known_tools", "KnownTools"),
    ]
    further = '--model.reward.terms+={"name": "short", "component": "Finished", "weight": 2}'
    assert parser.instantiate(parser.parse_args([*config, further])).model.reward.terms[3].weight == 2.0
