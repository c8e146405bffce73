"""Runs several `mentor-pl` training commands in one process, or one set of processes: starting Python takes longer than training here."""

import json
import sys
from pathlib import Path

from mentor_pl.cli.training import main

if __name__ == "__main__":
    for command in json.loads(Path(sys.argv[1]).read_text()):
        main(command)
