"""How a command ends."""

import subprocess
import sys

import pytest

_RUNS = """
import gc, io, sys
from mentor_pl.cli import main

class Holder:
    pass

def run(argv):
    holder = Holder()
    holder.itself = holder  # found by the collector of cycles alone
    holder.file = open("log.txt", "w")
    holder.file.write("said")
    raise {end}

main._run = run
main.main([])
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("KeyboardInterrupt", 130),
        ("KeyboardInterrupt('go on so')", 130),
        ("SystemExit(143)", 143),
    ],
)
def test_an_asked_for_end_has_its_status_and_writes_what_a_plugin_left_open(tmp_path, end, status):
    ended = subprocess.run([sys.executable, "-c", _RUNS.format(end=end)], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    assert ended.stderr == {
        "KeyboardInterrupt": "mentor-pl: stopped by Ctrl-C\n",
        "KeyboardInterrupt('go on so')": "mentor-pl: go on so\n",
    }.get(end, "")
    assert (tmp_path / "log.txt").read_text() == "said"


_LOST_IN_AN_IMPORT = """
import os, signal
from mentor_pl.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has it ignored

def run(argv):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        raise ImportError("half there") from None

main._run = run
main.main([])
"""


def test_ctrl_c_that_a_package_turns_into_another_error_is_still_ctrl_c(tmp_path):
    ended = subprocess.run([sys.executable, "-c", _LOST_IN_AN_IMPORT], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "mentor-pl: stopped by Ctrl-C\n")
