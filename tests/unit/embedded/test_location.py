from pathlib import Path

import pytest

from mentor_pl import embedded
from mentor_pl.errors import ConfigError


def test_embedded_path_is_found_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert embedded.resolve("embedded:train.parallel.jsonl").is_file()
    assert embedded.resolve("embedded:eval/id.jsonl").is_file()
    assert (embedded.resolve("embedded:student") / "config.json").is_file()


def test_other_paths_are_taken_as_they_are() -> None:
    assert embedded.resolve("data/mine.jsonl") == Path("data/mine.jsonl")
    assert embedded.resolve(Path("student")) == Path("student")


@pytest.mark.parametrize("name", ["train.jsonl", "../location.py", "eval/../../location.py", ""])
def test_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        embedded.resolve(f"embedded:{name}")
    assert str(refusal.value) == (
        f"there is no embedded file {name!r}; there are student, eval/combo.jsonl, eval/id.jsonl, eval/large.jsonl, "
        "eval/long.jsonl, eval/phrase.jsonl, eval/shift.jsonl, train.parallel.jsonl, train.stepwise.jsonl"
    )
