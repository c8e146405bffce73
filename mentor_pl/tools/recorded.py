"""Calls recorded once and replayed ever after: reruns cost nothing, and tests need no server."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import refused

_LASTING = (ToolStatus.OK, ToolStatus.ERROR)


class Recorded(ToolBackend):
    """Replays what another backend answered before to the same call in the same state, and records what it answers now.

    A call is the same where tool, arguments, `version` and state are. Where the backend keeps state
    within a session, the state is all that happened in the session so far; when a new call follows
    replayed ones, those are first run again, so that it meets the state that it should. Timeouts
    and infrastructure failures are not recorded.

    Args:
        backend: Whose calls to record. Closed together with this one.
        path: Record file, JSON Lines, made where it does not exist. Several processes may append to
            it at once.
        impure: Tools whose answers change by themselves (a clock, a random draw), or that change
            the world outside the session (an order placed). They always run, and are not recorded.
        version: Any text; change it when the tools do, and what was recorded for another version is
            not replayed.
        only_replay: True runs nothing: a call that is not on record is a `ConfigError`.

    Raises:
        ConfigError: The backend cannot be recorded, `impure` names a tool that it does not offer,
            or a file to replay from does not exist.
        DataFileError: A line of the file cannot be used; names file and line.
    """

    def __init__(
        self,
        backend: ToolBackend,
        path: str,
        impure: list[str] | None = None,
        version: str = "",
        only_replay: bool = False,
    ) -> None:
        names = [spec.name for spec in backend.specs]
        if unknown := sorted(set(impure or ()) - set(names)):
            raise ConfigError(f"Recorded.impure names {unknown[0]!r}; the backend's tools are {', '.join(names)}")
        if only_replay and not Path(path).is_file():
            raise ConfigError(f"Recorded.path: there is no file {path!r} to replay; record one with only_replay: false")
        if backend.tells_state or backend.per_prompt:
            raise ConfigError(
                f"Recorded.backend is {type(backend).__name__}, which keeps a state that is told at the end or has tools "
                "that differ from prompt to prompt; neither can be recorded"
            )
        self.slow, self.stateful, self.parallel = backend.slow, backend.stateful, backend.parallel
        self.reads_fields = backend.reads_fields
        self._backend, self._names = backend, names
        self._impure, self._version, self._only_replay = frozenset(impure or ()), version, only_replay
        self._path = Path(path)
        self._answers = read_record(self._path)
        self._lock = threading.Lock()
        self._file = -1
        if not only_replay:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            text = self._path.read_bytes()
            if not text.endswith(b"\n"):  # of a killed run; the next line must not be appended to it
                os.ftruncate(self._file, text.rfind(b"\n") + 1)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The backend's tools."""
        return self._backend.specs

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        """Open a session; the backend's own opens with the first call that has to run."""
        with ExitStack() as stack:
            replay = _Session(self._backend, stack, reference)

            def run(call: ToolCall) -> ToolResult:
                if refusal := refused(call, self._names):
                    return refusal
                question = self._question(call, replay.state)
                answer = None if call.name in self._impure else self._answers.get(_key(question))
                if answer is not None:
                    result = ToolResult(call_id=call.call_id, **answer)
                    replay.skipped.append(call)
                elif self._only_replay and call.name not in self._impure:
                    raise ConfigError(
                        f"{str(self._path)!r} holds no answer to {call.name}({json.dumps(dict(call.arguments)):.200}); record it first"
                    )
                else:
                    result = replay.run(call)
                    if call.name not in self._impure and result.status in _LASTING:
                        self._record(question, result)
                if self.stateful:
                    replay.state = _key({**question, "content": result.content})
                return result

            yield ToolSession(run=run)

    def _question(self, call: ToolCall, state: str) -> dict[str, Any]:
        return {"tool": call.name, "arguments": dict(call.arguments), "version": self._version, "state": state}

    def _record(self, question: Mapping[str, Any], result: ToolResult) -> None:
        answer = {"content": result.content, "status": result.status.value, "output_chars": result.output_chars}
        line = json.dumps({**question, **answer}) + "\n"
        with self._lock:
            self._answers[_key(question)] = {**answer, "status": result.status}
            # One write of one line to a file opened for appending: lines of other processes do not get in between.
            os.write(self._file, line.encode())

    def close(self) -> None:
        """Close the record and the backend."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._backend.close()


class _Session:
    """The backend's side of a session: opened late, and brought up to date before it is used."""

    def __init__(self, backend: ToolBackend, stack: ExitStack, reference: Reference | None) -> None:
        self._backend, self._stack, self._reference = backend, stack, reference
        self._opening = threading.Lock()
        self._inner: ToolSession | None = None
        self.skipped: list[ToolCall] = []
        self.state = ""

    def run(self, call: ToolCall) -> ToolResult:
        with self._opening:
            if self._inner is None:
                self._inner = self._stack.enter_context(self._backend.session(self._reference))
        while self._backend.stateful and self.skipped:
            self._inner(self.skipped.pop(0))
        return self._inner(call)


def _key(question: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def read_record(path: Path) -> dict[str, dict[str, Any]]:
    """Read a record file: the answers by the key of their question; none where there is no file.

    Raises:
        DataFileError: A line cannot be used. An unfinished last one is left out: a killed run may
            leave it.
    """
    answers: dict[str, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = cast("dict[str, Any]", json.loads(line))
            question = {name: row[name] for name in ("tool", "arguments", "version", "state")}
            answer = {
                "content": row["content"],
                "status": ToolStatus(row["status"]),
                "output_chars": row["output_chars"],
            }
        except (ValueError, KeyError, TypeError) as wrong:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataFileError(
                f"{path}:{number}: not a recorded tool call ({type(wrong).__name__}: {wrong}); delete the line"
            ) from wrong
        answers[_key(question)] = answer
    return answers
