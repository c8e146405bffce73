"""10,000 hostile calls of PythonInterpreter: what escaped, leaked, came back late, or never ran.

    python -m benchmarks.tools_hostile [--calls 10000] [--keep-variables] [--no-namespaces] [--output hostile.json]

Every snippet of `benchmarks.tools_hostile_snippets` is run over and over. Whether one got away with something is judged from outside: by
a secret that must not be shown, a server that must not be called, a process that must live, a directory that must stay empty. A sandbox
that ran nothing would look perfect, so every call must print a word first and every round computes something new.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import secrets
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tools_hostile_snippets import SNIPPETS, Snippet
from mentor_pl.messages import ToolCall, ToolResult
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.toolbox import ToolBox

_SLOW_EVERY = 20  # rounds; those snippets last until their time is up, and there is nothing new to see each time
_MOST_TASKS = 0.1
"""Share of the machine's process ids that hostile code may take, all calls together."""


class Stage:
    """What the snippets reach for: a secret, a place to write to, a server, a process."""

    def __init__(self, folder: Path) -> None:
        self.secret = secrets.token_hex(16)
        self.folder = folder
        self._file, self._outside = folder / "secret.txt", folder / "outside"
        folder.chmod(0o755)
        self._file.write_text(self.secret)
        self._file.chmod(0o666)
        self._before = self._file.stat()
        self._outside.mkdir()
        self._outside.chmod(0o777)
        self.victim = subprocess.Popen(["sleep", "100000"])
        self._servers = selectors.DefaultSelector()
        tcp = socket.create_server(("127.0.0.1", 0))
        self._port = tcp.getsockname()[1]
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", self._port))
        unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        abstract.bind(f"\0mentor-{self._port}")
        for server in (unix, abstract):
            server.listen()
        for server in (tcp, udp, unix, abstract):
            self._servers.register(server, selectors.EVENT_READ)

    def fill(self, snippet: Snippet, *, keep_variables: bool = False) -> str:
        """Return the snippet with the stage's names in it."""
        code = snippet.code.replace("SECRET_FILE", str(self._file)).replace("OUTSIDE", str(self._outside))
        code = code.replace("PORT", str(self._port)).replace("SOCKET", str(self.folder / "socket"))
        # In two halves, so that a traceback which quotes the source is not taken for an escape.
        code = code.replace("'ESCAPED'", "'ESC' 'APED'")
        # A session's process keeps the pipes by which its code comes and by which it says that it is done.
        code = code.replace("VICTIM", str(self.victim.pid)).replace("FIRST_FD", "5" if keep_variables else "3")
        return "import functools\nprint = functools.partial(print, flush=True)\nprint('begun')\n" + code

    def damage(self) -> list[str]:
        """List what hostile code has done to the stage."""
        after = self._file.stat() if self._file.exists() else None
        same = after and all(
            getattr(after, f) == getattr(self._before, f)
            for f in ("st_mode", "st_uid", "st_mtime_ns", "st_size", "st_nlink")
        )
        found = {
            "the secret file was changed": not same,
            "something was written outside": bool(list(self._outside.iterdir())),
            "the server was called": bool(self._servers.select(timeout=0)),
            "the victim is dead": self.victim.poll() is not None,
            "something lies in shared memory": any(Path("/dev/shm").glob("*mentor*")),
        }
        return [what for what, happened in found.items() if happened]

    def close(self) -> None:
        """Clear the stage."""
        self.victim.kill()
        self.victim.wait()
        for key in list(self._servers.get_map().values()):
            key.fileobj.close()  # pyright: ignore[reportAttributeAccessIssue]
        self._servers.close()


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Set a stage in a temporary folder."""
    # Not in /tmp, over which the sandbox mounts an empty disk: what lies there would be hidden, and nothing else be tried.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="mentor-") as folder:
        built = Stage(Path(folder))
        try:
            yield built
        finally:
            built.close()


def faults(snippet: Snippet, result: ToolResult, secret: str, timeout_s: float) -> list[str]:
    """Say what is wrong with how one hostile call ended."""
    found = {
        "escaped": "ESCAPED" in result.content or secret in result.content,
        "did not run": not result.content.startswith("begun"),
        # On a busy machine time may be up before anything else happens; that the call came back is asked below.
        f"ended as {result.status.value}": result.status.value not in (*snippet.endings, "timeout"),
        "came back late": result.duration_s > timeout_s + 1,
    }
    return [f"{snippet.name}: {what}" for what, happened in found.items() if happened]


def descendants() -> set[int]:
    """List the processes below this one, and those in sessions that it started."""
    ours, pids = {os.getpid()}, set[int]()
    stats: list[tuple[int, int, int]] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                stats.append((int(entry.name), int(fields[1]), int(fields[3])))
    grown = True
    while grown:
        found = {pid for pid, parent, session in stats if parent in ours or session in pids} - ours
        ours |= found
        pids |= found
        grown = bool(found)
    return pids


class TaskWatch:
    """Counts the machine's tasks, many times a second.

    Attributes:
        before: When the watch began.
        most: The most that were seen.
    """

    def __init__(self) -> None:
        self.before = self.most = self._present()
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> float:
        """End the watch; return the largest share of the machine's process ids that was taken since it began."""
        self._ended.set()
        return (self.most - self.before) / int(Path("/proc/sys/kernel/pid_max").read_text())

    def _present(self) -> int:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, self._present())


def run(
    calls: int, *, keep_variables: bool, timeout_s: float, workers: int, namespaces: bool = True
) -> dict[str, object]:
    """Run the suite until `calls` calls are made; return what was counted."""
    before = descendants()
    found: collections.Counter[str] = collections.Counter()
    ended: collections.Counter[str] = collections.Counter()
    lock, made, slowest_s = threading.Lock(), 0, 0.0
    tasks = TaskWatch()
    with stage() as built:
        known = before | {built.victim.pid}
        backend = PythonInterpreter(
            timeout_s=timeout_s,
            workers=workers,
            keep_variables=keep_variables,
            memory_mb=256,
            namespaces=namespaces,
        )
        box = ToolBox([backend])

        def attack(snippet: Snippet) -> None:
            nonlocal made, slowest_s
            with backend.session() as session:
                result = session(
                    ToolCall(
                        call_id="h",
                        name="python",
                        arguments={"code": built.fill(snippet, keep_variables=keep_variables)},
                    )
                )
            with lock:
                made += 1
                slowest_s = max(slowest_s, result.duration_s)
                ended[result.status.value] += 1
                found.update(faults(snippet, result, built.secret, timeout_s))

        def control(number: int) -> None:
            nonlocal made
            with box.session() as session:
                code = f"import math; math.prod([{number}, 7])"
                result = session(ToolCall(call_id="c", name="python", arguments={"code": code}))
            with lock:
                made += 1
                if result.content != str(number * 7):
                    found[f"control: {result.content[-80:]}"] += 1

        start, round_number = time.perf_counter(), 0
        with concurrent.futures.ThreadPoolExecutor(workers) as threads:
            while made < calls:
                batch = [s for s in SNIPPETS if not s.slow or round_number % _SLOW_EVERY == 0]
                jobs = [threads.submit(attack, snippet) for snippet in batch]
                jobs.append(threads.submit(control, secrets.randbelow(10**9)))
                for job in jobs:
                    job.result()
                round_number += 1
        duration_s = time.perf_counter() - start
        features = backend.features
        box.close()
        time.sleep(0.1)
        damage = built.damage()
        share = tasks.close()
        if share > _MOST_TASKS:
            damage.append(f"{share:.0%} of all process ids were taken")
        leaked = len(descendants() - known)
    return {
        "snippets": len(SNIPPETS),
        "calls": made,
        "rounds": round_number,
        "keep_variables": keep_variables,
        "endings": dict(ended),
        "faults": dict(found),
        "damage": damage,
        "leaked_processes": leaked,
        "most_tasks": tasks.most - tasks.before,
        "share_of_process_ids": round(share, 4),
        "slowest_s": round(slowest_s, 3),
        "limit_s": timeout_s,
        "calls_per_s": round(made / duration_s, 1),
        "host": features,
    }


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--timeout-s", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--keep-variables", action="store_true", help="one process per session instead of one per call")
    parser.add_argument("--no-namespaces", action="store_true", help="Landlock, system call filter and limits alone")
    parser.add_argument("--output", type=Path, help="write the counts as JSON")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary  # so that a leaked temporary file is seen
        counts = run(
            args.calls,
            keep_variables=args.keep_variables,
            timeout_s=args.timeout_s,
            workers=args.workers,
            namespaces=not args.no_namespaces,
        )
        counts["leaked_files"] = os.listdir(temporary)
        tempfile.tempdir = None
    for key, value in counts.items():
        print(f"{key:>18}  {value}")
    if args.output:
        args.output.write_text(json.dumps(counts, indent=2) + "\n")
    return int(bool(counts["faults"] or counts["damage"] or counts["leaked_processes"] or counts["leaked_files"]))


if __name__ == "__main__":
    sys.exit(main())
