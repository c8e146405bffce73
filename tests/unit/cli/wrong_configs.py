"""Wrong configs by the hundred, and what `mentor-pl` says to each: run in this process, up to the loading of the student."""

from __future__ import annotations

import contextlib
import copy
import io
import random
import shutil
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mentor_pl.cli.main import main
from mentor_pl.configs import find_config
from tests.unit.cli.one_parser import one_parser

Keys = tuple[str | int, ...]

VALUES: tuple[Any, ...] = (
    *("abx", "", "no/such/../file", "{", "☃☃☃", "no/such.py", "Correct"),
    *(-1, 0, 1.5, -0.5, 10**20, float("nan"), float("inf"), True),
    *([1, 2], ["x"], {"a": 1}, {"class_path": "NoSuch"}, None),
)
"""Each is wrong nearly everywhere."""


class StudentLoaded(BaseException):
    """The config was accepted: nothing stands between it and the student."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command said.

    Attributes:
        status: Its exit status; None where it came to load the student.
        said: Everything that it printed.
        crash: The traceback, where it ended in one.
    """

    status: int | None
    said: str
    crash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A config with one value put in another's place.

    Attributes:
        keys: Where.
        value: What.
        config: The whole config.
    """

    keys: Keys
    value: Any
    config: dict[str, Any]

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.keys))} = {self.value!r}"


@contextlib.contextmanager
def before_the_student(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop where a student would be loaded."""

    def loaded(*_: Any, **__: Any) -> None:
        raise StudentLoaded

    monkeypatch.setattr("mentor_pl.students.pretrained.Pretrained.load_model", loaded)
    with one_parser():
        yield


def answer(arguments: Sequence[str]) -> Answer:
    """Run a command in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(list(arguments))
        except StudentLoaded:
            return Answer(status=None, said=said.getvalue())
        except SystemExit as stopped:
            status = stopped.code if isinstance(stopped.code, int) else 0 if stopped.code is None else 1
            return Answer(
                status=status, said=f"{said.getvalue()}{stopped.code if isinstance(stopped.code, str) else ''}"
            )
        except Exception:
            return Answer(status=1, said=said.getvalue(), crash=traceback.format_exc())
    return Answer(status=0, said=said.getvalue())


def resolved_default() -> dict[str, Any]:
    """Return the default config with every key written out."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        main(["fit", f"--config={find_config('mentor')}", "--print_config"])
    config = yaml.safe_load(said.getvalue())
    config["data"]["evaluation_sampling"]["max_problems"] = 4
    return config


def places(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Yield where something can be put, from the outside in."""
    if keys:
        yield keys
    if isinstance(value, dict):
        for key, below in value.items():
            yield from places(below, (*keys, key))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            yield from places(below, (*keys, i))


def mistyped(config: dict[str, Any], count: int, seed: int) -> Iterator[Case]:
    """Yield configs with one wrong value each, in places of every depth."""
    rng = random.Random(seed)
    where = [keys for keys in places(config) if keys[0] not in ("run_dir", "config")]
    for _ in range(count):
        keys, value = rng.choice(where), rng.choice(VALUES)
        yield Case(keys=keys, value=value, config=_with(config, keys, value))


def misspelt(config: dict[str, Any], count: int, seed: int) -> Iterator[Case]:
    """Yield configs with one key misspelt each; the name of an evaluation split may be any."""
    rng = random.Random(seed)
    where = [k for k in places(config) if isinstance(k[-1], str) and k[:-1] != ("data", "evaluation")]
    for keys in rng.sample(where, min(count, len(where))):
        wrong = copy.deepcopy(config)
        parent = _at(wrong, keys[:-1])
        name = str(keys[-1])
        cut = rng.randrange(len(name))
        new = name[:cut] + "x" + name[cut:]
        parent[new] = parent.pop(name)
        yield Case(keys=(*keys[:-1], new), value=parent[new], config=wrong)


def _at(value: Any, keys: Keys) -> Any:
    for key in keys:
        value = value[key]
    return value


def _with(config: dict[str, Any], keys: Keys, value: Any) -> dict[str, Any]:
    wrong = copy.deepcopy(config)
    _at(wrong, keys[:-1])[keys[-1]] = copy.deepcopy(value)
    return wrong


def faults_of(case: Case, given: Answer) -> list[str]:
    """Say what is wrong with an answer: a traceback, many lines, or a culprit that it does not name."""
    if given.crash:
        return [f"{case}: {given.crash.strip().splitlines()[-1][:300]}"]
    if given.status is None:
        return []  # accepted; whether that is right is another question
    lines = [
        line
        for line in given.said.splitlines()
        if line.strip() and not line.startswith(("Seed set", "Failed to load CPU"))
    ]
    wrong: list[str] = []
    if "Traceback" in given.said or len(lines) != 1 or not lines[-1].startswith("mentor-pl: "):
        wrong.append(f"{case}: {len(lines)} lines: {' | '.join(lines)[:300]}")
    if given.status not in (1, 2):
        wrong.append(f"{case}: exit status {given.status}")
    named = [str(key) for key in case.keys if isinstance(key, str) and key not in ("init_args", "class_path")]
    if not any(word in given.said for word in (*named[-2:], str(case.value) or "empty")):
        wrong.append(f"{case}: no culprit: {' | '.join(lines)[:300]}")
    return wrong


def write(case: Case, folder: Path) -> list[str]:
    """Write a case and return the command that reads it."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(case.config, allow_unicode=True), encoding="utf-8")
    return ["fit", f"--config={path}"]
