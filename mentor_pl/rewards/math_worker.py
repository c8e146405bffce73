"""The process that runs math-verify for `math_judge`: a question a line on stdin, `true` or `false` on stdout."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
from typing import Any, cast

from mentor_pl.rewards.math_tolerance import agree

MEMORY_BYTES = 2 << 30
"""Address space of the worker: an answer such as 10^{10^{10}} must not take the machine's memory."""


def main() -> None:
    """Serve until stdin ends. An answer that takes too long ends this process, which the parent reads as a verdict."""
    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends us by closing stdin
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):  # not POSIX, or a lower limit is already set
        pass
    import math_verify  # pyright: ignore[reportMissingTypeStubs]

    library = cast(Any, math_verify)  # its hints refuse None for "no limit"

    nowhere = open(os.devnull, "w")  # noqa: SIM115 - the watchdog writes to it until the process ends
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(nowhere.fileno(), sys.stdout.fileno())  # a library's print must not be read as a verdict
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        answer, gold, timeout_s = json.loads(line)
        # The watchdog is a C thread: unlike signals it also ends a single long operation on big integers.
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=nowhere)
        try:
            wanted = library.parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
            given = library.parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
            verdict = agree(wanted, given, library.verify(wanted, given, timeout_seconds=None))
        except Exception:  # whatever a student's text does to the parser, it is not the right answer
            verdict = False
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(bool(verdict)), file=answers, flush=True)


if __name__ == "__main__":
    main()
