"""`mentor-pl chat`: the exported student and its tools in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.text import Text

from mentor_pl.causal_model import max_context, vocab_size
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.cli.layers import read_yaml
from mentor_pl.cli.parser import build, call
from mentor_pl.engines.auto import AutoEngine
from mentor_pl.engines.base import RolloutEngine, SamplingParams
from mentor_pl.engines.checked_session import checked_session
from mentor_pl.environments import Environment
from mentor_pl.environments.settings import training_settings
from mentor_pl.errors import ConfigError
from mentor_pl.interactive.conversation import Conversation
from mentor_pl.interactive.terminal import TerminalChat
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox

_PLUGIN_POINTS = ("mentor_pl.tools", "mentor_pl.engines", "mentor_pl.environments")


def chat(
    folder: str,
    tools: list[ToolBackend] | None = None,
    engine: RolloutEngine | None = None,
    sampling: SamplingParams = SamplingParams(temperature=0.0),  # noqa: B008 - frozen
    limits: RolloutLimits | None = None,
    final_tools: list[str] | None = None,
    environment: str | None = None,
    system: str = "",
    seed: int = 0,
    tokens_at_once: int = 8,
    device: str | None = None,
) -> None:
    r"""Talk with a student, who calls its tools for real, by the same protocol as in training. `/help` lists the commands.

    Lines are read from standard input, so that a file of questions serves too.

    Args:
        folder: The student as a run exports it, for example runs/last/student; any Hugging Face
            folder, or `embedded:student`.
        tools: What it may call. Unless given: what the run's config.yaml beside the student names,
            else the twelve arithmetic tools.
        engine: Generates; `AutoEngine` unless given.
        sampling: How tokens are drawn; greedy unless given.
        limits: Of each answer; unless given, those of the run.
        final_tools: Tools whose call ends an answer; unless given, those of the run, where its
            tools are.
        environment: Of a run with several training environments: the name of the one whose tools
            and limits are meant.
        system: What the student is told before the first question.
        seed: Decides every random number.
        tokens_at_once: Tokens between two updates of the screen. An engine without a cache, as
            HFGenerateEngine, reads the whole conversation anew for each: give it more.
        device: Where the student runs; a CUDA device where there is one, unless given.

    Raises:
        StudentError: The folder is no student.
        ConfigError: The run's config.yaml names tools that cannot be built, or there is no such
            device.
    """
    console = Console(highlight=False)
    place = _device(device)
    student = FullStudent(folder)
    protocol = ChatProtocol(student.load_tokenizer())
    config = Path(folder).parent / "config.yaml"
    if tools is None or limits is None:
        of_run = settings_of_run(config, environment)
        final_tools = of_run.final_tools if tools is None and final_tools is None else final_tools
        tools = of_run.tools if tools is None else tools
        limits = limits or of_run.limits
    engine = engine or AutoEngine(max_rows=1)
    with ExitStack() as stack:
        toolbox = stack.enter_context(closing(ToolBox(tools, final_tools=final_tools or ())))
        model: Any = student.load_model()
        model.to(place)
        stack.enter_context(closing(engine)).sync(model, 0)
        session = stack.enter_context(checked_session(engine, sampling, protocol.stop_token_ids, vocab_size(model)))
        conversation = Conversation(
            protocol=protocol,
            toolbox=toolbox,
            session=session,
            limits=limits,
            max_context=max_context(model),
            seed=seed,
            system=system,
            tokens_at_once=tokens_at_once,
        )
        names = ", ".join(spec.name for spec in toolbox.specs) or "none"
        console.print(Text(f"{folder} with the tools {names}; /help lists the commands", "dim"), soft_wrap=True)
        TerminalChat(conversation, console).run()


def _device(name: str | None) -> torch.device:
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as refused:
        raise ConfigError(f"chat: device is {name!r}; give cpu, cuda or cuda:1, for example") from refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a student acts in.

    Attributes:
        tools: What it may call.
        final_tools: Tools whose call ends an answer.
        limits: Budgets of an answer.
    """

    tools: list[ToolBackend]
    final_tools: list[str] = field(default_factory=list[str])
    limits: RolloutLimits = field(default_factory=RolloutLimits)


def settings_of_run(config_file: Path, environment: str | None = None) -> Settings:
    """Return the tools and limits of a run's config.yaml; the arithmetic tools where there is no such file.

    Args:
        config_file: The run's config.
        environment: Name of a training environment, where there are several.

    Raises:
        ConfigError: The tools or limits cannot be built, or there is no such environment.
    """
    if not config_file.is_file():
        return Settings(tools=[PythonFunctions(module="mentor_pl.tools.arithmetic")])
    data = (read_yaml(config_file) or {}).get("data") or {}
    chosen = _environment(data, environment, config_file)
    plain = chosen is None or str(chosen.get("class_path", "Environment")).rpartition(".")[2] == "Environment"
    arguments: Mapping[str, Any] = {}
    if chosen is not None and plain:
        arguments = (chosen.get("init_args") or {}) if "class_path" in chosen else chosen
    given = {key: value for key in ("tools", "limits") if (value := arguments.get(key) or data.get(key)) is not None}
    if plain and "tools" not in given:
        raise ConfigError(f"{config_file}: it has no data.tools; give --tools and --limits yourself")
    if not plain:
        given = {"environment": chosen, **{key: value for key, value in given.items() if key == "limits"}}
    hints = {"tools": list[ToolBackend], "limits": RolloutLimits, "environment": Environment}
    try:
        built = build(given, hints, f"{config_file}: data")
    except ConfigError as problem:
        raise ConfigError(f"{problem}; mend it, or give --tools and --limits yourself") from problem
    if plain:
        # The names go along with the tools.
        final_tools = (arguments if arguments.get("tools") else data).get("final_tools") or []
        return Settings(tools=built["tools"], final_tools=final_tools, limits=built.get("limits") or RolloutLimits())
    own: Environment = built["environment"]
    limits = own.limits or built.get("limits") or RolloutLimits()
    return Settings(tools=own.tools or [], final_tools=own.final_tools or [], limits=limits)


def _environment(data: Mapping[str, Any], name: str | None, config_file: Path) -> Mapping[str, Any] | None:
    """Return a training environment as a config names it; None for the short form."""
    given = data.get("train") or []
    names = [one.name for one in training_settings(data)] if given else []
    if name is not None and name not in names:
        raise ConfigError(
            f"{config_file}: there is no environment {name!r} in data.train; there are {', '.join(names) or 'none'}"
        )
    if len(given) > 1 and name is None:
        raise ConfigError(
            f"{config_file}: the run has the environments {', '.join(names)}; say whose tools are meant: --environment {names[0]}"
        )
    return given[names.index(name) if name else 0] if given else None


def main(argv: list[str]) -> None:
    """Run `mentor-pl chat`."""
    transformers.utils.logging.disable_progress_bar()
    call(chat, argv, prog="mentor-pl chat", groups=_PLUGIN_POINTS, as_positional=True)
