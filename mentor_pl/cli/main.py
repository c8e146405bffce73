"""`mentor-pl`: one file per subcommand; the training ones share LightningCLI."""

from __future__ import annotations

import importlib
import logging
import sys

from mentor_pl import __version__
from mentor_pl.errors import MentorError

TRAINING = {
    "fit": "train the student",
    "validate": "evaluate the student on every split",
    "test": "the same, logged as test",
    "predict": "let the student try every split and write its trajectories",
}
OTHERS = {
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
    return f"usage: mentor-pl COMMAND ...\n\n{lines}\n\n`mentor-pl COMMAND --help` explains every key of a command."


def main(argv: list[str] | None = None) -> None:
    """Run a subcommand; a `MentorError` becomes one line on stderr and exit status 1."""
    argv = sys.argv[1:] if argv is None else argv
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # speaks of an optional kernel whenever it is imported
    command = argv[0] if argv else "--help"
    try:
        if command in ("-h", "--help"):
            print(_usage())
        elif command == "--version":
            print(f"mentor-pl {__version__}")
        elif command in TRAINING:
            importlib.import_module("mentor_pl.cli.training").main(argv)
        elif command in OTHERS:
            importlib.import_module(OTHERS[command][0]).main(argv[1:])
        else:
            print(f"mentor-pl: there is no command {command!r}\n\n{_usage()}", file=sys.stderr)
            sys.exit(2)
    except MentorError as error:
        print(f"mentor-pl: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
