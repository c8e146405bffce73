"""One confined process as the trainer holds it: its pipes, and how its code ended."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a piece of code ended.

    Attributes:
        status: "ok"; "error": it raised, or left with a status above 0; "timeout"; "output": it printed too much; "crashed": a signal
            ended it. Decided outside the process that ran the code.
        output: What it printed, both streams, cut at the limit of bytes.
    """

    status: str
    output: str


class Cell:
    """The pipes of one confined process, as the trainer holds them.

    Attributes:
        key: Names the process towards the zygote.
        alive: True while it can take another piece of code.
        code_fd: Where code is written.
        output_fd: Where output is read. Neither ever blocks.
    """

    def __init__(self, key: int, code_fd: int, output_fd: int) -> None:
        self.key = key
        self.code_fd, self.output_fd = code_fd, output_fd
        self.alive = True
        for fd in (code_fd, output_fd):
            os.set_inheritable(fd, False)
            os.set_blocking(fd, False)

    def write_from(self, code: bytes) -> bytes:
        """Write what fits; return the rest."""
        try:
            return code[os.write(self.code_fd, code) :]
        except BlockingIOError:
            return code

    def read_into(self, output: bytearray, limit: int) -> bool:
        """Read what is there, up to `limit` bytes in all; False where nothing can come any more."""
        while len(output) < limit:
            try:
                part = os.read(self.output_fd, min(1 << 16, limit - len(output)))
            except BlockingIOError:
                return True
            if not part:
                return False
            output += part
        return True

    def close(self) -> None:
        """Close both pipes; the process ends when it next looks for code."""
        if self.alive:
            self.alive = False
            os.close(self.code_fd)
            os.close(self.output_fd)
