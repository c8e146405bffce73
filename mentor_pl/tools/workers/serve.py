"""The worker's side: `python -m mentor_pl.tools.workers.serve CHANNEL_FD LIFELINE_FD`. Imports no torch, so it starts fast and small.

Protocol over a socket pair, in frames of `multiprocessing.connection`. The first frame is the
configuration as JSON, answered by the specs or an error. Then, for plain functions, each frame
`name NEWLINE arguments-JSON` is a call, answered by `[status, text, length]`. For a class this
process only forks: `+` with a descriptor opens a session in a child, which serves calls on that
descriptor; its first frame is the initial state as JSON. A call named `state()` or `score()` asks
the instance itself. `-PID` ends it. A hanging session is thus killed without touching any other.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from pydantic import ValidationError

from mentor_pl.errors import ConfigError
from mentor_pl.tools.results import truncated
from mentor_pl.tools.schema import with_integers
from mentor_pl.tools.workers.lifeline import watch
from mentor_pl.tools.workers.signatures import QUESTIONS, TypedFunction, explain, load_functions

_MAX_ERROR_CHARS = 500


def _render(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, str):
        return "ok", value
    try:
        return "ok", json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as unfit:
        kind = type(value).__name__
        return (
            "error",
            f"Error: {name} returned a {kind} that is not JSON ({unfit}); a tool returns text, numbers, lists or dicts",
        )


def _with_integers(arguments: bytes, tool: TypedFunction) -> bytes:
    try:
        given = json.loads(arguments)
    except ValueError:  # an integer of thousands of digits, say: the validator explains it
        return arguments
    return json.dumps(with_integers(given, tool.spec.parameters)).encode()


def run_call(tool: TypedFunction, arguments: bytes, instance: Any) -> tuple[str, str]:
    """Validate the arguments, run the tool, render what it returns; anything that goes wrong becomes text."""
    name = tool.spec.name
    try:
        values = tool.arguments.validate_json(_with_integers(arguments, tool))
    except ValidationError as wrong:
        return "error", f"Error: {name}: {explain(wrong, arguments)}"
    try:
        value = tool.function(**values) if instance is None else tool.function(instance, **values)
        value = asyncio.run(value) if inspect.iscoroutine(value) else value
    except BaseException as failure:  # sys.exit() in a tool ends the call, not the worker
        reason = "".join(traceback.format_exception_only(type(failure), failure)).strip()
        return "error", f"Error: {name}: {reason[:_MAX_ERROR_CHARS]}"
    return _render(name, value)


def answer_question(name: str, instance: Any) -> tuple[str, str]:
    """Ask the instance for its state or score; the answer is JSON, or what went wrong."""
    try:
        return "ok", json.dumps(getattr(instance, name)(), allow_nan=False)
    except BaseException as failure:
        reason = "".join(traceback.format_exception_only(type(failure), failure)).strip()
        return "error", f"{name}() failed: {reason[:_MAX_ERROR_CHARS]}"


def serve_calls(channel: Connection, tools: dict[str, TypedFunction], instance: Any, max_chars: int) -> None:
    """Answer calls until the trainer closes the channel."""
    while True:
        try:
            frame = channel.recv_bytes()
        except (EOFError, OSError):
            return
        name, _, arguments = frame.partition(b"\n")
        if name in (b"state()", b"score()"):
            status, text = answer_question(name.decode()[:-2], instance)
            channel.send_bytes(json.dumps((status, text, len(text))).encode())
            continue
        status, text = run_call(tools[name.decode()], arguments, instance)
        text = text.encode(
            "utf-8", "replace"
        ).decode()  # half a surrogate pair could be neither shown nor written to a file
        channel.send_bytes(json.dumps((status, truncated(text, max_chars), len(text))).encode())


def _serve_session(fd: int, tools: dict[str, TypedFunction], make: Callable[..., Any], max_chars: int) -> None:
    """Make the session's own instance and serve it; runs in a forked child, which ends here."""
    channel = Connection(fd)
    initial_state = json.loads(channel.recv_bytes())
    try:
        takes_state = "initial_state" in inspect.signature(make).parameters
        instance = make(initial_state=initial_state) if takes_state else make()
    except BaseException as failure:
        reason = "".join(traceback.format_exception_only(type(failure), failure)).strip()
        channel.send_bytes(json.dumps(f"{make!r} raised {reason[:_MAX_ERROR_CHARS]}").encode())
        return
    channel.send_bytes(b"null")
    serve_calls(channel, tools, instance, max_chars)


def serve_sessions(
    control: socket.socket, tools: dict[str, TypedFunction], make: Callable[..., Any], max_chars: int
) -> None:
    """Fork a child for each session and kill it at its end."""
    gc.freeze()  # children then do not touch, and so not copy, the pages of what is already there
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not message:
            return
        if descriptors:
            child = os.fork()
            if child == 0:
                try:
                    control.close()
                    _serve_session(descriptors[0], tools, make, max_chars)
                finally:
                    os._exit(0)
            os.close(descriptors[0])
            control.send(str(child).encode())
        else:
            child = -int(message)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            control.send(b"ended")


def main(channel_fd: int, lifeline_fd: int) -> None:
    """Serve one trainer until it is gone."""
    watch(lifeline_fd)
    channel = Connection(channel_fd)
    settings = json.loads(channel.recv_bytes())
    try:
        tools, owner = load_functions(settings["module"], settings["functions"])
    except ConfigError as wrong:
        channel.send_bytes(json.dumps({"error": str(wrong)}).encode())
        return
    questions = [name for name in QUESTIONS if inspect.isfunction(getattr(owner, name, None))]
    specs = [tool.spec.to_openai()["function"] for tool in tools.values()]
    channel.send_bytes(json.dumps({"specs": specs, "stateful": owner is not None, "questions": questions}).encode())
    if owner is None:
        serve_calls(channel, tools, None, settings["max_chars"])
    else:
        control = socket.socket(fileno=os.dup(channel_fd))
        channel.close()
        serve_sessions(control, tools, owner, settings["max_chars"])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
