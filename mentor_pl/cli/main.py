"""`mentor-pl`: one file per subcommand; the training ones share LightningCLI."""

from __future__ import annotations

import atexit
import contextlib
import difflib
import gc
import importlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from mentor_pl import __version__
from mentor_pl.cli.shipped import with_shipped_configs
from mentor_pl.errors import MentorError, UsageError

TRAINING = {
    "fit": "train the student",
    "validate": "evaluate the student on every split",
    "test": "the same, logged as test",
    "predict": "let the student try every split and write its trajectories",
}
OTHERS = {
    "init": ("mentor_pl.cli.init", "write a small project of your own that runs at once"),
    "doctor": ("mentor_pl.cli.doctor", "what a student can do here, and what to set"),
    "score": ("mentor_pl.cli.score", "score saved trajectories without training"),
    "export": ("mentor_pl.cli.export", "write the student of a checkpoint as a Hugging Face folder"),
    "plugins": ("mentor_pl.cli.plugins", "list the plugins that were found, and what failed to load"),
    "compare": ("mentor_pl.cli.compare", "train by several methods and seeds, and compare them"),
    "references": ("mentor_pl.cli.references", "check, convert and make reference files"),
    "report": ("mentor_pl.cli.report", "a run as one HTML page"),
    "chat": ("mentor_pl.cli.chat", "talk with an exported student, who calls its tools"),
    "collect": ("mentor_pl.cli.collect", "let a teacher solve prompts, and keep what is verified"),
}


def _usage() -> str:
    rows = {**TRAINING, **{name: text for name, (_, text) in OTHERS.items()}}
    width = max(map(len, rows))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())
    return (
        f"usage: mentor-pl COMMAND ...\n\n{lines}\n\n`mentor-pl COMMAND --help` explains every key of a command. "
        "`--config mentor` names a config that comes with mentor-pl."
    )


def main(argv: list[str] | None = None) -> None:
    """Run a subcommand.

    What a user or the machine got wrong becomes one line on stderr. The exit status is 2 where the
    arguments or a config cannot be read, 130 after Ctrl-C, else 1. With MENTOR_PL_TRACEBACK=1 the
    traceback is printed too.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        with _ctrl_c_stays_itself():
            _run(argv)
    except UsageError as error:
        _fail(error, 2)
    except (MentorError, OSError) as error:
        _fail(error, 1)
    except KeyboardInterrupt as stop:
        atexit.register(_leave_the_rest)
        print(f"mentor-pl: {stop if stop.args else 'stopped by Ctrl-C'}", file=sys.stderr)
        sys.exit(130)
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > 128:  # a signal asked for it
            atexit.register(_leave_the_rest)
        raise


@contextlib.contextmanager
def _ctrl_c_stays_itself() -> Iterator[None]:
    """Raise KeyboardInterrupt where Ctrl-C was pressed, whatever became of it.

    Packages that meet it while they are imported raise something else, or go on with what is then
    half there.
    """
    pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # as nohup has it
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave_the_rest() -> None:
    """Keep the interpreter from taking apart, one by one, what a million objects of torch and others hold.

    That takes a second, several on a busy machine, of the few that whoever asked us to end may give
    us. It would have closed files, too.
    """
    for each in gc.get_objects():
        if issubclass(type(each), io.IOBase):
            with contextlib.suppress(Exception):  # closed, or somebody's own kind of file
                each.flush()
    gc.freeze()


def _fail(error: Exception, status: int) -> NoReturn:
    if os.environ.get("MENTOR_PL_TRACEBACK"):
        traceback.print_exception(error)
    message = " ".join(str(error).split())  # what other libraries say may have many lines
    print(f"mentor-pl: {type(error).__name__}: {message}", file=sys.stderr)
    sys.exit(status)


def _run(argv: list[str]) -> None:
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # speaks of an optional kernel whenever it is imported
    command = argv[0] if argv else "--help"
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # a config names a class of the user's own file: `class_path: my_reward.FewTurns`
    argv = with_shipped_configs(argv)
    if command in ("-h", "--help"):
        print(_usage())
    elif command == "--version":
        print(f"mentor-pl {__version__}")
    elif command in TRAINING:
        importlib.import_module("mentor_pl.cli.training").main(argv)
    elif command in OTHERS:
        importlib.import_module(OTHERS[command][0]).main(argv[1:])
    else:
        known = [*TRAINING, *OTHERS]
        close = difflib.get_close_matches(command, known, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise UsageError(f"there is no command {command!r}{meant}; the commands are {', '.join(known)}")
