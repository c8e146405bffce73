from __future__ import annotations

from pathlib import Path

import jsonargparse
import pytest

from mentor_pl.plugins import load_plugins
from mentor_pl.students.base import StudentLoader

OVERLAYS = Path(__file__).parents[3] / "configs" / "student"


@pytest.fixture
def parser() -> jsonargparse.ArgumentParser:
    load_plugins("mentor_pl.students")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(StudentLoader, "model.student")
    return parser


@pytest.mark.parametrize("overlay", ["lora", "nf4_lora"])
def test_path_and_dtype_stay_under_an_overlay(
    parser: jsonargparse.ArgumentParser, tmp_path: Path, overlay: str
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("model: {student: {class_path: FullStudent, init_args: {path: some/model, dtype: bfloat16}}}\n")
    student = parser.parse_args(
        [f"--config={base}", f"--config={OVERLAYS / overlay}.yaml", "--model.student.rank=4"]
    ).model.student
    assert student.class_path.endswith({"lora": ".LoraStudent", "nf4_lora": ".Nf4LoraStudent"}[overlay])
    assert (student.init_args.path, student.init_args.dtype, student.init_args.rank) == ("some/model", "bfloat16", 4)


def test_gguf_overlay_takes_its_file_from_the_command_line(parser: jsonargparse.ArgumentParser) -> None:
    arguments = [f"--config={OVERLAYS / 'gguf'}.yaml", "--model.student.gguf_file=mine.gguf"]
    student = parser.parse_args(arguments).model.student
    assert student.class_path.endswith(".GgufStudent")
    assert (student.init_args.gguf_file, student.init_args.chat_template) == ("mine.gguf", "hermes")


def test_misspelt_key_is_refused(parser: jsonargparse.ArgumentParser) -> None:
    with pytest.raises(jsonargparse.ArgumentError, match="rnk"):
        parser.parse_args([f"--config={OVERLAYS / 'lora'}.yaml", "--model.student.rnk=4"])
