"""`mentor-pl chat`: the exported student and its tools in a terminal."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.text import Text

from mentor_pl.causal_model import max_context
from mentor_pl.chat.protocol import ChatProtocol
from mentor_pl.cli.layers import read_yaml
from mentor_pl.cli.parser import build, call
from mentor_pl.engines.auto import AutoEngine
from mentor_pl.engines.base import RolloutEngine, SamplingParams
from mentor_pl.errors import ConfigError
from mentor_pl.interactive.conversation import Conversation
from mentor_pl.interactive.terminal import TerminalChat
from mentor_pl.rollout.limits import RolloutLimits
from mentor_pl.students.full import FullStudent
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.toolbox import ToolBox

_PLUGIN_POINTS = ("mentor_pl.tools", "mentor_pl.engines")


def chat(
    folder: str,
    tools: list[ToolBackend] | None = None,
    engine: RolloutEngine | None = None,
    sampling: SamplingParams = SamplingParams(temperature=0.0),  # noqa: B008 - frozen
    limits: RolloutLimits | None = None,
    system: str = "",
    seed: int = 0,
    tokens_at_once: int = 8,
    device: str | None = None,
) -> None:
    r"""Talk with a student, who calls its tools for real, by the same protocol as in training. `/help` lists the commands.

    Lines are read from standard input, so that a file of questions serves too.

    Args:
        folder: The student as a run exports it, for example runs/last/student; any Hugging Face folder, or `embedded:student`.
        tools: What it may call. Unless given: what the run's config.yaml beside the student names, else the twelve arithmetic tools.
        engine: Generates; `AutoEngine` unless given.
        sampling: How tokens are drawn; greedy unless given.
        limits: Of each answer; unless given, those of the run.
        system: What the student is told before the first question.
        seed: Decides every random number.
        tokens_at_once: Tokens between two updates of the screen. An engine without a cache, as HFGenerateEngine, reads the whole
            conversation anew for each: give it more.
        device: Where the student runs; a CUDA device where there is one, unless given.

    Raises:
        StudentError: The folder is no student.
        ConfigError: The run's config.yaml names tools that cannot be built, or there is no such device.
    """
    console = Console(highlight=False)
    place = _device(device)
    student = FullStudent(folder)
    protocol = ChatProtocol(student.load_tokenizer())
    config = Path(folder).parent / "config.yaml"
    if tools is None or limits is None:
        run_tools, run_limits = settings_of_run(config)
        tools = run_tools if tools is None else tools
        limits = limits or run_limits
    engine = engine or AutoEngine(max_rows=1)
    with ExitStack() as stack:
        toolbox = stack.enter_context(closing(ToolBox(tools)))
        model: Any = student.load_model()
        model.to(place)
        stack.enter_context(closing(engine)).sync(model, 0)
        session = stack.enter_context(engine.session(sampling, protocol.stop_token_ids))
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


def settings_of_run(config_file: Path) -> tuple[list[ToolBackend], RolloutLimits]:
    """Return the tools and limits of a run's config.yaml; the arithmetic tools where there is no such file.

    Raises:
        ConfigError: The tools or limits cannot be built.
    """
    if not config_file.is_file():
        return [PythonFunctions(module="mentor_pl.tools.arithmetic")], RolloutLimits()
    data = (read_yaml(config_file) or {}).get("data") or {}
    if "tools" not in data:
        raise ConfigError(f"{config_file}: it has no data.tools; give --tools and --limits yourself")
    given = {key: data[key] for key in ("tools", "limits") if data.get(key) is not None}
    try:
        built = build(given, {"tools": list[ToolBackend], "limits": RolloutLimits}, f"{config_file}: data")
    except ConfigError as problem:
        raise ConfigError(f"{problem}; mend it, or give --tools and --limits yourself") from problem
    return built["tools"], built.get("limits") or RolloutLimits()


def main(argv: list[str]) -> None:
    """Run `mentor-pl chat`."""
    transformers.utils.logging.disable_progress_bar()
    call(chat, argv, prog="mentor-pl chat", groups=_PLUGIN_POINTS, as_positional=True)
