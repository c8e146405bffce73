"""SIGKILL of a trainer in the middle of tool calls: which of its processes still live after a second?

python -m benchmarks.tools_sigkill [--times 20]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tools_hostile import descendants

_TOOLS = '''
import re, time

def sleeps() -> str:
    """Sleep for hours."""
    time.sleep(9999)
    return ""

def keeps_the_lock() -> bool:
    """Keep the interpreter lock for hours."""
    return re.match("(a+)+$", "a" * 64 + "b") is None

class Stateful:
    """One process per session."""

    def sleeps_too(self) -> str:
        """Sleep for hours."""
        time.sleep(9999)
        return ""
'''

_TRAINER = """
import sys, threading
from mentor_pl.messages import ToolCall
from mentor_pl.tools.functions import PythonFunctions
from mentor_pl.tools.interpreter import PythonInterpreter

plain = PythonFunctions(sys.argv[1], ["sleeps", "keeps_the_lock"], timeout_s=999, workers=3)
stateful = PythonFunctions(sys.argv[1] + ":Stateful", timeout_s=999)
python = PythonInterpreter(timeout_s=999, workers=2)
kept = PythonInterpreter(timeout_s=999, workers=2, keep_variables=True)
loop = {"code": "while True: pass"}

def call(backend, name, arguments={}):
    with backend.session() as run:
        run(ToolCall(call_id="1", name=name, arguments=arguments))

jobs = [(plain, "sleeps"), (plain, "keeps_the_lock"), (stateful, "sleeps_too"), (stateful, "sleeps_too")]
jobs += [(python, "python", loop), (kept, "python", loop), (kept, "python", {"code": "import time; time.sleep(999)"})]
for job in jobs:
    threading.Thread(target=call, args=job, daemon=True).start()
print("calling", flush=True)
threading.Event().wait()
"""


def _state(pid: int) -> str:
    """Return what tells a process from a later one with the same id; "" for one that is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def survivors(times: int, patience_s: float = 1.0) -> list[str]:
    """Kill a trainer `times` times; return the command lines of what still lives `patience_s` seconds later."""
    left: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder, "tools.py")
        tools.write_text(_TOOLS)
        for _ in range(times):
            before = descendants()
            trainer = subprocess.Popen([sys.executable, "-c", _TRAINER, str(tools)], stdout=subprocess.PIPE)
            assert trainer.stdout is not None and trainer.stdout.readline() == b"calling\n"
            time.sleep(random.uniform(0.0, 0.5))
            family = {pid: _state(pid) for pid in descendants() - before}
            assert len(family) > 8, f"only {len(family)} processes: nothing was running that could survive"
            trainer.kill()
            trainer.wait()
            deadline = time.monotonic() + patience_s
            while (
                alive := [pid for pid, state in family.items() if state and _state(pid) == state]
            ) and time.monotonic() < deadline:
                time.sleep(0.01)
            for pid in alive:
                left.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200])
                os.kill(pid, 9)
            trainer.stdout.close()
    return left


def main() -> int:
    """Run from the command line; return 1 where anything survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    left = survivors(times)
    print(f"{times} trainers killed in the middle of calls; {len(left)} processes alive after 1 s")
    for line in left:
        print(f"  {line}")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
