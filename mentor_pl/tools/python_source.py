"""Tools whose code comes with the prompt, run where it can do no harm."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Generator
from contextlib import contextmanager

from mentor_pl.errors import DataFileError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.interpreter import PythonInterpreter
from mentor_pl.tools.prompt_tools import PromptTools

_CALL = """\
import contextlib as _contextlib, io as _io, json as _json, sys as _sys
_printed = _io.StringIO()
try:
    with _contextlib.redirect_stdout(_printed):
        _value = {name}(**_json.loads({arguments!r}))
except Exception as _failure:
    print(type(_failure).__name__ + ": " + str(_failure))
    _sys.exit(1)
if _value is None and _printed.getvalue():
    print(_printed.getvalue(), end="")
else:
    print(_value if isinstance(_value, str) else _json.dumps(_value, ensure_ascii=False, default=str))
"""


class PythonSource(PromptTools):
    """Runs the tools of a prompt by Python source that its reference holds, as the authors' `env` does.

    The source defines a function for each of the prompt's tools. It is run once for each
    trajectory, in a confined process of its own (see `PythonInterpreter`), and its variables are
    the trajectory's state. A call is checked against the tool's schema; then the function is called
    with the arguments by name. A text that it returns is shown as it is, anything else as JSON;
    what it prints is shown where it returns nothing. What it raises is an error that the student
    reads.

    Args:
        field: Field of the reference's row that holds the source. Prompts without it have no tools
            here.
        timeout_s: Wall-clock seconds of one call, and of running the source.
        memory_mb: Address space of one trajectory's process.
        max_output_chars: Longer results are cut, with a line that says so.
        workers: Zygotes from which the processes are forked; any number of trajectories runs at
            once.
        packages: Installed distributions that the source may import beside the standard library,
            with all that they need.
        preload: Modules that are imported already, which makes source that uses them start faster.
        described_by: Describes tools that a prompt only names; runs nothing. Closed together with
            this one.

    Raises:
        ConfigError: This machine cannot confine code, a package is not installed, or a limit is not
            above 0.
    """

    stateful = True

    def __init__(
        self,
        field: str = "env",
        timeout_s: float = 5.0,
        memory_mb: int = 512,
        max_output_chars: int = 10_000,
        workers: int = 1,
        packages: list[str] | None = None,
        preload: list[str] | None = None,
        described_by: ToolBackend | None = None,
    ) -> None:
        super().__init__(described_by)
        self._field, self.reads_fields = field, (field,)
        self._python = PythonInterpreter(
            timeout_s=timeout_s,
            memory_mb=memory_mb,
            max_output_chars=max_output_chars,
            workers=workers,
            keep_variables=True,
            packages=packages,
            preload=preload,
        )

    def specs_for(self, reference: Reference) -> tuple[ToolSpec, ...]:
        """Return the tools that a prompt's source defines; none where it has no source.

        Raises:
            DataFileError: The source is no Python, or no text.
            ConfigError: The parameters of a tool are not JSON Schema.
        """
        if (source := self._source(reference)) is None:
            return ()
        try:
            defined = _names(source)
        except (SyntaxError, ValueError, RecursionError) as failure:
            raise DataFileError(
                f"reference {reference.reference_id!r}: {self._field} cannot be read as Python ({failure})"
            ) from None
        return tuple(spec for spec in super().specs_for(reference) if spec.name in defined)

    def _source(self, reference: Reference) -> str | None:
        source = reference.fields.get(self._field)
        if source is None or source == "":
            return None
        if not isinstance(source, str):
            raise DataFileError(
                f"reference {reference.reference_id!r}: {self._field} is {source!r:.80}; it must be Python source, as text"
            )
        return source

    @contextmanager
    def session(self, reference: Reference | None = None) -> Generator[ToolSession]:
        """Open a session; its process is forked, and the source run, with the first call."""
        specs = () if reference is None else self.specs_for(reference)
        source = None if reference is None else self._source(reference)
        with self._python.session() as python:
            is_loaded = False

            def execute(call: ToolCall, code: str) -> ToolResult:
                return python(ToolCall(call_id=call.call_id, name="python", arguments={"code": code}))

            def run(call: ToolCall) -> ToolResult:
                nonlocal is_loaded
                if refusal := self.refusal(call, specs):
                    return refusal
                if not is_loaded:
                    assert reference is not None and source is not None  # or there would be no tools
                    loaded = execute(call, source + "\nNone")
                    if not loaded.ok:
                        why = loaded.content.strip().rpartition("\n")[2]
                        raise ToolBackendError(
                            f"{self._field} of reference {reference.reference_id!r} cannot be run: {why}"
                        )
                    is_loaded = True
                return execute(call, _CALL.format(name=call.name, arguments=json.dumps(call.arguments)))

            yield ToolSession(run=run)

    def close(self) -> None:
        """Kill all processes."""
        self._python.close()
        super().close()


@functools.lru_cache(maxsize=4096)
def _names(source: str) -> frozenset[str]:
    """Return every name that source may define at its top: a function, a class, an assignment, an import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return frozenset(names)
