"""Every command in README, docs and plugins is one that the real parsers take; no file that it names need exist."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mentor_pl.cli.chat import chat
from mentor_pl.cli.collect import collect
from mentor_pl.cli.compare import compare
from mentor_pl.cli.export import export
from mentor_pl.cli.init import init
from mentor_pl.cli.main import main
from mentor_pl.cli.parser import OneLineErrors
from mentor_pl.cli.references import check, convert, from_trajectories
from mentor_pl.cli.report import report
from mentor_pl.cli.schema import parameters
from mentor_pl.cli.score import score
from mentor_pl.cli.training import _Parser
from mentor_pl.configs import config_folder, config_names
from tests.unit.cli.wrong_configs import before_the_student

ROOT = Path(__file__).parents[2]
DOCS = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("mentor_pl/templates/*/README.md")),
]
FUNCTIONS = (chat, collect, compare, export, check, convert, from_trajectories, init, report, score)

KNOWN = {parameter for function in FUNCTIONS for parameter in parameters(function)}

OF_OTHERS = {
    *(
        "host",
        "max-model-len",
        "enable-prompt-tokens-details",
        "no-enable-chunked-prefill",
        "weight-transfer-config",
    ),  # vLLM
    *("signal", "rdzv-id", "standalone", "no-deps"),  # sbatch, torchrun, pip
    *("from", "prompts", "config", "help"),  # `convert`'s name for its source; a benchmark's
}
"""Options that docs name and that are not in a signature of ours."""


def code(text: str) -> Iterator[str]:
    """Yield the lines of code blocks, continued lines joined, and the code in running text."""
    blocks = re.findall(r"^ *```(?:sh|bash|console)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"(?:^(?: {4,}|\t).*\n)+", prose, re.MULTILINE)
    for block in blocks:
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
    for span in re.findall(r"`([^`]+)`", prose):
        yield " ".join(span.split())


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command."""
    for line in code(text):
        if re.match(r"mentor-pl [a-z-]+\b|python -m benchmarks|(bash )?scripts/\w+\.sh|pip install|\.venv/bin/", line):
            words = shlex.split(line, comments=True)
            while words:
                end = next((i for i, word in enumerate(words) if word in ("&&", "|", "<", ">", ";")), len(words))
                yield words[:end]
                words = words[end + 1 :] if words[end : end + 1] in (["&&"], ["|"], [";"]) else []


def options(text: str) -> Iterator[list[str]]:
    """Yield the words of each option that running text names."""
    for line in code(text):
        if re.match(r"--[a-z]", line):
            yield shlex.split(line)


def of(program: str) -> list[Any]:
    """Return the docs' commands of a program, as parameters of a test."""
    found = [(doc, words) for doc in DOCS for words in commands(doc.read_text(encoding="utf-8"))]
    return [
        pytest.param(words, id=f"{doc.relative_to(ROOT)}: {' '.join(words)}"[:150])
        for doc, words in found
        if words[0] == program or words[:2] == [program.split()[0], *program.split()[1:]]
    ]


class Parsed(BaseException):
    """The arguments were parsed."""


def parsed(*_: Any, **__: Any) -> NoReturn:
    raise Parsed


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    patch = pytest.MonkeyPatch()
    with before_the_student(patch):
        patch.setattr(OneLineErrors, "instantiate", parsed)
        patch.setattr(OneLineErrors, "instantiate_classes", parsed)
        yield patch
    patch.undo()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that docs tell the reader to have."""
    shutil.copytree(config_folder(), tmp_path / "configs")
    (tmp_path / "runs/last").mkdir(parents=True)
    text = (tmp_path / "configs" / "mentor.yaml").read_text(encoding="utf-8")
    config = text.replace("rewards/", f"{tmp_path}/configs/rewards/")
    (tmp_path / "runs/last/config.yaml").write_text(config, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def provide(words: list[str]) -> None:
    """Write the files of the reader's own that a command names; those of `configs/` must be there."""
    for option, value in zip(words, words[1:], strict=False):
        path = Path(value)
        if option not in ("--config", "--program") or path.suffix != ".yaml" or path.exists():
            continue
        if path.parts[0] == "configs" or path.with_suffix("").as_posix() in config_names():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        program = Path("configs/rewards/mentor.yaml").read_text(encoding="utf-8")
        path.write_text(program if option == "--program" else "{}", encoding="utf-8")


def assert_parses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        main(words)
    except Parsed:
        return
    except SystemExit as stopped:
        said = capsys.readouterr().err
        partial = words[0] != "fit" and "the following arguments are required" in said  # in running text
        assert stopped.code in (0, None) or partial, said


@pytest.mark.parametrize("words", of("mentor-pl"))
def test_a_command_of_ours(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if len(words) == 2 and words[1] not in ("plugins",):  # a command's name alone, in running text
        words = [*words, "--help"]
    elif words[1] == "references" and len(words) == 3:
        words = [*words, "--help"]
    if words[-1].startswith("--") and words[-1] != "--help":  # an option in running text, without its value
        assert words[-1].removeprefix("--") in KNOWN
        return
    provide(words)
    assert_parses(words[1:], capsys)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=f"{doc.relative_to(ROOT)}: {' '.join(words)}"[:120])
        for doc in DOCS
        for words in options(doc.read_text(encoding="utf-8"))
    ],
)
def test_an_option_in_running_text(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = words[0].removeprefix("--").partition("=")[0].rstrip("+")
    head = name.partition(".")[0]
    if head in _Parser.schema and ("." in name or len(words) > 1 or "=" in words[0]):
        given = words if len(words) > 1 or "=" in words[0] else [*words, "null"]
        nf4 = "--config=configs/student/nf4_lora.yaml"  # has the arguments of every student that docs speak of
        assert_parses(
            ["fit", "--config=configs/mentor.yaml", *([nf4] if "model.student" in name else []), *given], capsys
        )
    else:
        assert head in KNOWN | OF_OTHERS | set(_Parser.schema), f"no command takes --{name}"


@pytest.mark.parametrize("words", of("python"))
def test_a_benchmark(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert words[1] == "-m"
    assert importlib.util.find_spec(words[2]), f"there is no {words[2]}"
    if len(words) == 3:
        return
    take, take_known = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args

    def parse_args(self: argparse.ArgumentParser, *arguments: Any) -> NoReturn:
        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", take_known)  # it is called within
        take(self, *arguments)
        raise Parsed

    def parse_known_args(self: argparse.ArgumentParser, *arguments: Any) -> NoReturn:
        take_known(self, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
    monkeypatch.setattr(sys, "argv", words[2:])
    with pytest.raises(Parsed):
        importlib.import_module(words[2]).main()


@pytest.mark.parametrize("words", [*of("bash"), *of("pip"), *of(".venv/bin/ruff")])
def test_what_a_shell_runs_is_there(words: list[str]) -> None:
    for word in words[1:]:
        if re.match(r"(scripts|\./plugins)/", word):
            assert (ROOT / word.partition("[")[0]).exists(), f"there is no {word}"
