"""Starts a server that dies with its trainer: `python leash.py COMMAND ...` becomes the command itself."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(sys.argv[1]):  # it died before we listened
            sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])
