"""Wrong commands of every subcommand but the training ones, and where they must end."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mentor_pl.plugins import find_plugins
from tests.unit.cli.wrong_configs import VALUES, Answer, StudentLoaded

TOOLS = "[{class_path: PythonFunctions, init_args: {module: mentor_pl.tools.arithmetic}}]"
TERMS = "[{name: correct, weight: 1, component: {class_path: Correct}}]"
TEACHER = "{class_path: OpenAITeacher, init_args: {model: m, base_url: 'http://127.0.0.1:9/v1', api_key_env: ''}}"

COMMANDS: dict[str, dict[str, str]] = {
    "init": {"": "project", "--template": "calculator"},
    "doctor": {"": "embedded:student", "--rows": "2", "--context_tokens": "64", "--pad_token": "<|endoftext|>"},
    "plugins": {"--group": "mentor_pl.rewards"},
    "report": {"": "run", "--output": "page.html", "--max_trajectories": "3"},
    "export": {
        "--run_dir": "run",
        "--checkpoint": "last.ckpt",
        "--output": "out",
        "--merge": "true",
        "--dtype": "float32",
    },
    "chat": {
        "": "embedded:student",
        "--tools": TOOLS,
        "--engine": "{class_path: AutoEngine, init_args: {max_rows: 1}}",
        "--sampling": "{temperature: 0.5, top_k: 3}",
        "--sampling.top_p": "0.9",
        "--limits": "{max_turns: 3}",
        "--seed": "1",
        "--tokens_at_once": "4",
        "--device": "cpu",
    },
    "score": {
        "--program.terms": TERMS,
        "--references": "references.jsonl",
        "--trajectories": "trajectories.jsonl",
        "--output": "scores.jsonl",
    },
    "compare": {"--configs": "{a: mentor}", "--seeds": "1", "--jobs": "1", "--threads": "1", "--output": "compared"},
    "references check": {
        "": "references.jsonl",
        "--against": "[other.jsonl]",
        "--judge": "Correct",
        "--tools": TOOLS,
    },
    "references convert": {
        "--input": "chat.jsonl",
        "--output": "converted.jsonl",
        "--from": "chat",
        "--judge": "{class_path: Correct, init_args: {judge: exact}}",
    },
    "references from-trajectories": {
        "--references": "references.jsonl",
        "--trajectories": "trajectories.jsonl",
        "--output": "more.jsonl",
        "--keep": "1",
        "--prefer": "shortest",
        "--only_unsolved": "true",
    },
    "collect": {
        "--prompts": "references.jsonl",
        "--output": "collected.jsonl",
        "--teacher": TEACHER,
        "--tools": TOOLS,
        "--judges": "[Correct]",
        "--sampling": "{samples: 1, concurrency: 1}",
        "--limits": "{max_turns: 3}",
        "--budget": "{max_requests: 1}",
    },
}
"""A right command for each; the argument without a name stands under the empty one."""

RUN = "model: {student: {class_path: FullStudent, init_args: {path: embedded:student}}}"

WORDS = (*("abx", "-1", "1.5", "1e20", "nan", "null", "true", "{", "[1, 2]", "[x]", "{a: 1}", "{class_path: NoSuch}"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongCommand:
    """A command with one thing wrong.

    Attributes:
        arguments: All of it.
        culprit: The words of which its answer must hold one.
    """

    arguments: Sequence[str]
    culprit: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.arguments)


def write_inputs(folder: Path) -> None:
    """Write the files that right commands name."""
    reference = {"id": "a", "prompt": "1 + 2?", "answer": "3", "tools": []}
    for name in ("references.jsonl", "other.jsonl"):
        (folder / name).write_text(json.dumps({**reference, "prompt": name}) + "\n", encoding="utf-8")
    messages = [{"role": "user", "content": "1 + 2?"}, {"role": "assistant", "content": "\\boxed{3}"}]
    (folder / "chat.jsonl").write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    (folder / "trajectories.jsonl").write_text("", encoding="utf-8")
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text(RUN, encoding="utf-8")
    torch.save({"global_step": 0, "state_dict": {}}, folder / "last.ckpt")


@contextlib.contextmanager
def before_the_work(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop where a student would be loaded, a teacher asked, or a run started."""

    def begun(*_: Any, **__: Any) -> None:
        raise StudentLoaded

    find_plugins()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("mentor_pl.students.pretrained.Pretrained.load_model", begun)
    monkeypatch.setattr("mentor_pl.references.openai_teacher.OpenAITeacher.reply", begun)
    monkeypatch.setattr("mentor_pl.cli.compare._fit", begun)
    yield


def right(command: str) -> list[str]:
    """Return the arguments of a right command."""
    return _joined(command, COMMANDS[command])


def wrong(command: str, seed: int) -> WrongCommand:
    """Return a command with a misspelt option, a value of another kind, one argument missing, or one too many."""
    rng = random.Random(f"{command} {seed}")
    options = dict(COMMANDS[command])
    name = rng.choice(list(options))
    match rng.choice(("misspelt", "value", "value", "value", "missing", "further")):
        case "misspelt" if name:
            cut = rng.randrange(3, len(name))
            new = name[:cut] + "x" + name[cut:]
            options = {new if key == name else key: value for key, value in options.items()}
            [part] = set(new.lstrip("-").split(".")) - set(name.lstrip("-").split("."))
            return WrongCommand(arguments=_joined(command, options), culprit=(part,))
        case "missing":
            del options[name]
            return WrongCommand(arguments=_joined(command, options), culprit=(name.lstrip("-") or "required",))
        case "further":
            return WrongCommand(arguments=[*_joined(command, options), "abx", "xyz"], culprit=("abx", "xyz"))
        case _:
            value = rng.choice((*WORDS, *(str(v) for v in VALUES if isinstance(v, str) and v)))
            options[name] = value
            return WrongCommand(
                arguments=_joined(command, options), culprit=(name.lstrip("-").split(".")[-1] or value, value)
            )


def _joined(command: str, options: dict[str, str]) -> list[str]:
    return command.split() + [f"{name}={value}" if name else value for name, value in options.items()]


def faults_of(case: WrongCommand, given: Answer) -> list[str]:
    """Say what is wrong with an answer: a traceback, many lines, or a culprit that it does not name."""
    if given.crash:
        return [f"{case}: {given.crash.strip().splitlines()[-1][:300]}"]
    if given.status in (None, 0):
        return []  # accepted; whether that is right is another question
    lines = [line for line in given.said.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("mentor-pl: ")]
    faults: list[str] = []
    if "Traceback" in given.said or (case.arguments[0] not in ("doctor", "references") and told != lines[-1:]):
        faults.append(f"{case}: {len(lines)} lines: {' | '.join(lines)[:300]}")
    if given.status not in (1, 2):
        faults.append(f"{case}: exit status {given.status}")
    if not any(word in given.said for word in case.culprit):
        faults.append(f"{case}: no culprit {case.culprit}: {' | '.join(lines)[:300]}")
    return faults
