"""The journal of a collection: every reply that was paid for, and what tools said to it, on disk before it is used.

Entries are found by a digest of what was asked, so that a collection that is started again, also
with other prompts or limits, asks again only for what was never answered.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mentor_pl.errors import ConfigError
from mentor_pl.files.fields import validated
from mentor_pl.files.jsonl import AppendWriter, Row, parse_line
from mentor_pl.messages import ToolStatus

Kind = Literal["reply", "results", "attempt"]


class ResultRow(BaseModel):
    """A `ToolResult` without its call's id; `ToolResult` is made of its fields."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    content: str
    status: Annotated[ToolStatus, Field(strict=False)]
    duration_s: float
    output_chars: int
    final: bool = False


class _Entry(BaseModel):
    """What every line holds."""

    model_config = ConfigDict(strict=True)

    kind: Kind
    key: str


class _Reply(_Entry):
    message: dict[str, Any]
    finish_reason: str = "stop"
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]


class _Results(_Entry):
    results: list[ResultRow]


class _Attempt(_Entry):
    trajectories: list[dict[str, Any]]


_MODELS: dict[str, type[_Entry]] = {"reply": _Reply, "results": _Results, "attempt": _Attempt}


def journal_key(*parts: Any) -> str:
    """Return the digest of anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


class Journal:
    """Rows on disk by kind and key; safe for threads, and for one process at a time.

    Attributes:
        path: The file.
        num_replies: Replies in it.
        prompt_tokens: Tokens that they read, in all.
        completion_tokens: Tokens that they wrote, in all.
    """

    def __init__(self, path: Path) -> None:
        """Open or make a journal; a line torn by a crash is dropped.

        Raises:
            ConfigError: Another process writes it.
            DataFileError: A line within it is damaged, or none of a journal.
        """
        self.num_replies = self.prompt_tokens = self.completion_tokens = 0
        self.path = path
        self._places: dict[tuple[str, str], tuple[int, int]] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._guard = _only_one(path)  # before anything is mended in it
        self._writer = AppendWriter(path, durable=True)
        self._reader = os.open(path, os.O_RDONLY)
        start = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}:{number}"
                    row = parse_line(line, where)
                    validated(_MODELS[validated(_Entry, row, where).kind], row, where)
                    self._enter(row, start, len(line))
                start += len(line)

    def _enter(self, row: Row, start: int, length: int) -> None:
        self._places[row["kind"], row["key"]] = (start, length)
        if row["kind"] == "reply":
            self.num_replies += 1
            self.prompt_tokens += row["prompt_tokens"]
            self.completion_tokens += row["completion_tokens"]

    def get(self, kind: Kind, key: str) -> Row | None:
        """Return an entry, None where there is none."""
        place = self._places.get((kind, key))
        if place is None:
            return None
        start, length = place
        return json.loads(os.pread(self._reader, length, start))

    def put(self, kind: Kind, key: str, row: Mapping[str, Any]) -> None:
        """Add an entry; it is on the disk when this returns.

        Raises:
            OSError: The disk is full, say.
        """
        full = {"kind": kind, "key": key, **row}
        with self._lock:
            start, length = self._writer.write(full)
            self._enter(full, start, length)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
        os.close(self._reader)
        os.close(self._guard)


def _only_one(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # not on Windows
        pass
    except OSError:
        os.close(descriptor)
        raise ConfigError(
            f"{path}: another process is collecting into this journal; wait for it or name another"
        ) from None
    return descriptor
