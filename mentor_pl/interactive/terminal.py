"""The terminal side of a chat: reading lines, colours, commands, and Ctrl-C."""

from __future__ import annotations

import json
import shlex
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mentor_pl.errors import MentorError
from mentor_pl.files import read_rows, reference_to_row, trajectory_to_row, write_rows
from mentor_pl.interactive.conversation import AnswerEnded, Conversation, ToolAnswered, TurnEnded, TurnProgress
from mentor_pl.messages import Message, ToolCall

_HELP = """\
/tools              what the student can call
/save FILE          add the last answer to FILE as a reference, to train on
/save FILE trajectory
                    the same as a trajectory, with its tokens
/reset              forget the conversation
/help               this
/quit               leave; so does Ctrl-D
Ctrl-C              stop an answer; its question is then forgotten"""


class TerminalChat:
    """Lines in, coloured answers out.

    Args:
        conversation: With the student.
        console: Where to write; where it is no terminal, nothing is streamed and no prompt is
            shown.
    """

    def __init__(self, conversation: Conversation, console: Console) -> None:
        self._conversation, self._console = conversation, console

    def run(self) -> None:
        """Talk until `/quit` or the end of the input."""
        with suppress(ImportError):  # history and editing; not there on every platform
            import readline  # noqa: F401
        while (line := self._read()) is not None:
            text = line.strip()
            try:
                if text in ("/quit", "/exit"):
                    return
                if text.startswith("/"):
                    self._command(text)
                elif text:
                    self._answer(text)
            except (MentorError, OSError) as problem:
                self._note(str(problem), "red")

    def _read(self) -> str | None:
        """Return the next line; None at the end of the input."""
        prompt = "\nyou> " if self._console.is_terminal else ""
        while True:
            try:
                # A terminal set to another encoding may hand over lone surrogates, which no tokenizer takes.
                return input(prompt).encode("utf-8", "replace").decode()
            except EOFError:
                return None
            except UnicodeDecodeError as problem:
                self._note(f"this line is not in {problem.encoding}", "red")
            except KeyboardInterrupt:
                self._note("\n/quit or Ctrl-D leaves", "dim")

    def _command(self, text: str) -> None:
        try:
            command, *words = shlex.split(text)
        except ValueError as problem:
            return self._note(f"{text}: {problem}", "red")
        match command, words:
            case "/help", []:
                self._note(_HELP, "dim")
            case "/tools", []:
                for spec in self._conversation.toolbox.specs:
                    summary = spec.description.partition("\n")[0]
                    self._print(Text(spec.name, "cyan") + Text(f" {_visible(summary)}", "default"))
            case "/reset", []:
                self._conversation.reset()
                self._note("the conversation begins anew", "dim")
            case "/save", [path] | [path, "reference"]:
                self._save(Path(path), as_trajectory=False)
            case "/save", [path, "trajectory"]:
                self._save(Path(path), as_trajectory=True)
            case _:
                self._note(f"there is no command {text!r}; /help lists them", "red")

    def _save(self, path: Path, *, as_trajectory: bool) -> None:
        last = self._conversation.last
        if last is None:
            return self._note("nothing has been answered yet", "red")
        name = f"chat-{uuid.uuid4().hex[:12]}"
        reference = last.question if as_trajectory else last.as_reference(name)
        if as_trajectory:
            prompt = [message.to_openai() for message in reference.prompt]
            row = {**trajectory_to_row(last.trajectory, token_ids=True, prompt=prompt), "reference_id": name}
        else:
            row = reference_to_row(reference)
        earlier = list(read_rows(path, lambda row, where: row)) if path.exists() else []
        write_rows(path, [*earlier, row])
        what = "trajectory" if as_trajectory else f"reference with the answer {reference.answer!r}"
        self._note(f"{path}: {what} {name} added, {len(earlier) + 1} in all", "dim")

    def _answer(self, text: str) -> None:
        events = self._conversation.ask(text)
        with _stoppable() as stopped, Live(console=self._console, transient=True, auto_refresh=False) as live:
            for event in events:
                match event:
                    case TurnProgress(text=writing) if self._console.is_terminal:
                        live.update(self._last_lines(writing), refresh=True)
                    case TurnEnded(message=message):
                        live.update("", refresh=True)
                        self._show(message)
                    case ToolAnswered(result=result):
                        style = "green" if result.ok else "red"
                        self._print(Text(f"  = {_visible(result.content)}", style))
                    case AnswerEnded(trajectory=trajectory) if not trajectory.finished:
                        self._note(f"ended by {trajectory.stop_reason.value}", "yellow")
                if stopped and not isinstance(event, AnswerEnded):
                    events.close()
                    live.update("", refresh=True)
                    self._note("stopped; the question is forgotten", "yellow")
                    return

    def _show(self, message: Message) -> None:
        if message.content:
            self._print(Text(_visible(message.content)))
        for call in message.tool_calls:
            self._print(Text(f"  {_call(call)}", "cyan" if call.parse_error is None else "red"))

    def _last_lines(self, writing: str) -> Text:
        """As much of the end as the screen can take back: what has scrolled away cannot be replaced."""
        lines = Text(_visible(writing), "dim").wrap(self._console, self._console.width)
        return Text("\n").join(lines[-max(self._console.height - 2, 1) :])

    def _note(self, text: str, style: str) -> None:
        self._print(Text(_visible(text), style))

    def _print(self, text: Text) -> None:
        # The terminal breaks long lines itself; a file's lines stay whole.
        self._console.print(text, soft_wrap=True)


def _call(call: ToolCall) -> str:
    if call.parse_error is not None:
        return f"{call.name or '?'}: {_visible(call.parse_error)}"
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return _visible(f"{call.name}({arguments})")


def _visible(text: str) -> str:
    """Replace what steers a terminal: neither a model nor a tool may move the cursor or rename the window."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "\ufffd" for c in text)


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Let Ctrl-C be noted instead of raised: an engine in the middle of a step cannot be cut. A second one is raised."""
    pressed: list[int] = []

    def note(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
