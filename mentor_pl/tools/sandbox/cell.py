"""One confined process as the trainer holds it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mentor_pl.tools.sandbox.child import LENGTH

_GRACE_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a piece of code ended.

    Attributes:
        status: "ok"; "error": it raised, or left with a status above 0; "timeout"; "output": it
            printed too much; "crashed": a signal ended it; "gone": its process had ended before.
            Decided outside the process that ran the code.
        output: What it printed, both streams, cut at the limit of bytes.
        duration_s: Wall-clock seconds, without waiting for a free process.
    """

    status: str
    output: str = ""
    duration_s: float = 0.0


class Cell:
    """The pipes to and from one confined process, and the socket on which the zygote tells of it.

    Args:
        descriptors: Where code is written, where output is read, the socket. Owned from here on.
        max_output_bytes: Code that prints more is stopped.
    """

    def __init__(self, descriptors: Sequence[int], max_output_bytes: int) -> None:
        self._code_fd, self._output_fd, control_fd = descriptors
        self._control = socket.socket(fileno=control_fd)
        self._max_output_bytes = max_output_bytes
        self._alive = True
        for fd in (self._code_fd, self._output_fd):
            os.set_blocking(fd, False)
        for fd in descriptors:
            os.set_inheritable(fd, False)

    @property
    def alive(self) -> bool:
        """True while its process can take another piece of code."""
        return self._alive

    def run(self, code: bytes, timeout_s: float) -> tuple[Outcome, Cell | None]:
        """Run a piece of code and wait for its end.

        Args:
            code: Python source, UTF-8.
            timeout_s: Wall-clock seconds.

        Returns:
            The outcome, and the cell to come where each process runs one piece of code only.

        Raises:
            OSError: The sandbox itself failed.
        """
        start = time.perf_counter()
        try:
            self._control.send(json.dumps({"run": timeout_s}).encode())
            output, answer, descriptors = self._converse(LENGTH.pack(len(code)) + code, timeout_s + _GRACE_S)
        except OSError:
            self.close()
            raise
        if not answer["alive"]:
            self.close()
        following = Cell(descriptors, self._max_output_bytes) if descriptors else None
        if answer["status"] == "unconfined":
            if following is not None:
                following.close()
            raise OSError("a process could not be confined; its own words are on standard error")
        text = bytes(output[: self._max_output_bytes]).decode("utf-8", "replace")
        return Outcome(status=answer["status"], output=text, duration_s=time.perf_counter() - start), following

    def _converse(self, code: bytes, patience_s: float) -> tuple[bytearray, dict[str, Any], list[int]]:
        """Hand over the code and collect output until the zygote has given its verdict."""
        output = bytearray()
        limit = self._max_output_bytes + 1
        deadline = time.monotonic() + patience_s
        control_fd = self._control.fileno()
        poll = select.poll()
        poll.register(self._code_fd, select.POLLOUT)
        poll.register(self._output_fd, select.POLLIN)
        poll.register(control_fd, select.POLLIN)
        while True:
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1e3))
            if not ready:
                raise OSError("the sandbox does not answer")
            if self._code_fd in ready:
                code = self._write(code) if ready[self._code_fd] == select.POLLOUT else b""
                if not code:
                    poll.unregister(self._code_fd)
            if self._output_fd in ready:
                if not self._read_into(output, limit) or len(output) == limit:
                    poll.unregister(self._output_fd)
                if len(output) == limit:
                    self._control.send(b'{"stop": true}')
            if control_fd in ready:
                message, descriptors, _, _ = socket.recv_fds(self._control, 4096, 3)
                if not message:
                    raise OSError("the sandbox ended")
                self._read_into(output, limit)
                return output, json.loads(message), list(descriptors)

    def _write(self, code: bytes) -> bytes:
        """Write what fits; return the rest."""
        try:
            return code[os.write(self._code_fd, code) :]
        except BlockingIOError:
            return code
        except BrokenPipeError:  # its reader is gone, and the verdict on its way
            return b""

    def _read_into(self, output: bytearray, limit: int) -> bool:
        """Read what is there, up to `limit` bytes in all; False where nothing can come any more."""
        while len(output) < limit:
            try:
                part = os.read(self._output_fd, min(1 << 16, limit - len(output)))
            except BlockingIOError:
                return True
            if not part:
                return False
            output += part
        return True

    def close(self) -> None:
        """End the process, where it still lives. May be called again."""
        if self._alive:
            self._alive = False
            with contextlib.suppress(OSError):
                self._control.close()
            os.close(self._code_fd)
            os.close(self._output_fd)
