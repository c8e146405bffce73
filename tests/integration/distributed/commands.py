"""Runs several `mentor-pl` training commands in one process, or one set of processes: starting Python takes longer than training here."""

import json
import os
import sys
from pathlib import Path

from mentor_pl.cli.training import main

_FILE = "MENTOR_PL_TEST_COMMANDS"
"""A further rank is started with one command's arguments; this tells it of all."""

if __name__ == "__main__":
    for command in json.loads(Path(os.environ.setdefault(_FILE, sys.argv[1])).read_text()):
        main(command)
