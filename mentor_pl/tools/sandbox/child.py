"""The process that runs model-written code: it confines itself, says that it got there, and runs.

What the zygote imports, each fork copies: hence no dataclasses and no pathlib here and in the
modules below, which would cost every call a tenth of its time.
"""

from __future__ import annotations

import ast
import linecache
import os
import resource
import struct
import sys
import traceback
from types import TracebackType
from typing import Any, NamedTuple

from mentor_pl.tools.sandbox import kernel, landlock, namespaces, seccomp

STATUS_FD, CODE_FD, RULES_FD = 3, 4, 5
REACHED, DONE, RAISED = b"R", b"D", b"E"
LENGTH = struct.Struct("<I")
"""Stands ahead of each piece of code on the code pipe: its length in bytes."""

_SOURCE = "<code>"
_MAX_TRACEBACK_CHARS = 4000


class Confinement(NamedTuple):
    """Where code runs and what it may use.

    Attributes:
        keep_variables: True: one process runs piece after piece of code, until it is killed. False:
            it runs one and ends.
        writable: The working directory, an empty disk; None where the host grants no mounting, and
            code then cannot write at all.
        cpu_s: Processor seconds, all threads together; None: no limit but the zygote's clock.
        memory_bytes: Address space.
        disk_bytes: Size of the working directory, and of any file.
        max_tasks: See `tasks.TaskLimit.tasks`.
    """

    keep_variables: bool
    writable: str | None
    cpu_s: int | None
    memory_bytes: int
    disk_bytes: int
    max_tasks: int | None


def confine_zygote(confinement: Confinement, rules: int) -> None:
    """Give up, once in the zygote, what neither it nor its children need: children inherit limits, Landlock and lost capabilities.

    Where each child mounts a disk of its own, it is the child that gives up the right to do so.

    Args:
        confinement: What children are made to.
        rules: Landlock ruleset.
    """
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # where memory runs out, these processes go first and not the trainer
    # A zygote holds three descriptors for each session; children may have fewer.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    # The limit on tasks is the children's alone: the zygote has to fork.
    for name, value in (
        ("AS", confinement.memory_bytes),
        ("FSIZE", confinement.disk_bytes),
        ("STACK", 8 << 20),
        ("CORE", 0),
        ("MEMLOCK", 0),
    ):
        number = getattr(resource, f"RLIMIT_{name}")
        present = resource.getrlimit(number)[1]
        value = present if 0 <= present < value else value
        resource.setrlimit(number, (value, value))
    kernel.call("prctl", kernel.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    kernel.call("prctl", kernel.PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not confinement.keep_variables:
        _give_up_rights(rules)


def _give_up_rights(rules: int) -> None:
    kernel.drop_capabilities()
    landlock.enforce(rules)


def _confine(confinement: Confinement, system_calls: seccomp.Filter) -> None:
    """Give up, for good, all that the code does not need."""
    if confinement.keep_variables:
        if confinement.writable is not None:
            namespaces.mount_own_disk(confinement.writable, confinement.disk_bytes)
        _give_up_rights(RULES_FD)
    os.close(RULES_FD)
    os.chdir(confinement.writable or "/")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    if confinement.max_tasks is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (confinement.max_tasks, confinement.max_tasks))
    if confinement.cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (confinement.cpu_s, confinement.cpu_s))
    system_calls.enforce()


def _receive() -> bytes:
    """Read one piece of code; b"" ends it all."""
    text = b""
    length = LENGTH.unpack(os.read(CODE_FD, LENGTH.size).ljust(LENGTH.size, b"\0"))[0]
    while len(text) < length:
        if not (part := os.read(CODE_FD, length - len(text))):
            return b""
        text += part
    return text


def _own_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames and frames.tb_frame.f_code.co_filename != _SOURCE:
        frames = frames.tb_next
    return frames


def _run(code: str, variables: dict[str, Any]) -> None:
    """Run code as a notebook confinement runs: the value of a last expression is shown."""
    linecache.cache[_SOURCE] = (len(code), None, code.splitlines(keepends=True), _SOURCE)
    tree = ast.parse(code, _SOURCE)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        del tree.body[-1]
    exec(compile(tree, _SOURCE, "exec"), variables)
    if isinstance(last, ast.Expr):
        sys.displayhook(eval(compile(ast.Expression(last.value), _SOURCE, "eval"), variables))


def warm_up() -> None:
    """Do once, in the zygote, what the first piece of code and the first traceback would have to do."""
    _run("x = 1\nNone", {})
    try:
        _run("1 / 0", {})
    except ZeroDivisionError as error:
        traceback.format_exception(type(error), error, _own_frames(error.__traceback__), limit=-5, chain=False)


def _run_and_report(code: bytes, variables: dict[str, Any]) -> int:
    """Run code, show what it raises, and return the exit status that it deserves."""
    try:
        try:
            _run(code.decode("utf-8"), variables)
        except SystemExit as leaving:
            return leaving.code & 255 if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException as error:
            frames = _own_frames(error.__traceback__)
            text = "".join(traceback.format_exception(type(error), error, frames, limit=-5, chain=False))
            sys.stderr.write(text[-_MAX_TRACEBACK_CHARS:])
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except (
        BaseException
    ):  # the code replaced sys.stdout, broke str() of its exception, ...: it is a failure all the same
        return 1
    return 0


def run(confinement: Confinement, system_calls: seccomp.Filter) -> None:
    """Confine this process and run the code that comes over the code pipe; does not return.

    Args:
        confinement: What it is made to.
        system_calls: What it may call.
    """
    _confine(confinement, system_calls)
    # Read by the zygote, apart from the code's output: an exit status alone could claim that the sandbox had failed.
    os.write(STATUS_FD, REACHED)
    # What the `site` module, which is left out, would have added and models use.
    variables = {"__name__": "__main__", "__builtins__": __builtins__, "exit": sys.exit, "quit": sys.exit}
    if not confinement.keep_variables:
        code = _receive()
        os.closerange(STATUS_FD, CODE_FD + 1)
        os._exit(_run_and_report(code, variables))
    while code := _receive():
        os.write(STATUS_FD, RAISED if _run_and_report(code, variables) else DONE)
    os._exit(0)
