"""`mentor-pl init` writes a project whose files the program itself accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mentor_pl.cli.init import init, templates
from mentor_pl.cli.main import main
from mentor_pl.errors import ConfigError
from mentor_pl.files.references import read_references


@pytest.mark.parametrize("template", templates())
def test_references_name_only_tools_of_the_project(template: str, tmp_path: Path) -> None:
    init(tmp_path / "p", template)
    references = read_references(tmp_path / "p" / "references.jsonl")
    assert len(references) >= 16
    assert {call.name for reference in references for call in reference.tool_calls} <= {
        tool.name for reference in references for tool in reference.tools
    }


@pytest.mark.parametrize(("template", "module"), [("calculator", "tools.py"), ("shop", "shop.py:Shop")])
def test_the_teacher_of_the_project_replays(
    template: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(tmp_path / "p", template)
    monkeypatch.chdir(tmp_path / "p")
    tools = f'[{{class_path: PythonFunctions, init_args: {{module: "{module}"}}}}]'
    with pytest.raises(SystemExit) as ended:
        main(["references", "check", "references.jsonl", "--tools", tools])
        raise SystemExit(0)
    assert ended.value.code == 0


def test_the_shop_has_state_and_follow_ups_and_no_answers(tmp_path: Path) -> None:
    init(tmp_path / "p", "shop")
    for name in ("references", "held_out"):
        references = read_references(tmp_path / "p" / f"{name}.jsonl")
        assert all(reference.initial_state["orders"] and not reference.answers for reference in references)
        assert {len(reference.follow_ups) for reference in references} == {0, 1}


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds files already; name a new or empty folder"):
        init(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_template_is_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="template is 'shp'; there are .*calculator"):
        init(tmp_path / "p", "shp")
    assert not (tmp_path / "p").exists()
