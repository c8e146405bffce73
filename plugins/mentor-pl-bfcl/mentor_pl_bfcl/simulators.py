"""The leaderboard's simulators as tools with state: a file system, a car, a broker, tickets, messages, travel."""

from __future__ import annotations

import copy
import importlib
import json
import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from decimal import localcontext
from typing import Any

import mpmath

from mentor_pl.errors import ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl_bfcl.cases import Case, find_case
from mentor_pl_bfcl.limits import refusal_of
from mentor_pl_bfcl.package import data_folder


class BFCLSimulators(ToolBackend):
    """Runs the multi-turn cases of BFCL. A reference names its case by its id, and has the case's tools.

    Each trajectory has simulators of its own, in the case's first state. They live in memory and
    reach neither files nor the network. The student sees what the leaderboard would show it:
    results as JSON, errors as `Error during execution: ...`.
    """

    stateful = True
    tells_state = True
    per_prompt = True

    def __init__(self) -> None:
        """Find the package.

        Raises:
            ConfigError: The package bfcl-eval is not installed.
        """
        data_folder()

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """None: which tools there are depends on the prompt."""
        return ()

    def specs_for(self, reference: Reference) -> tuple[ToolSpec, ...]:
        """Return a multi-turn case's tools; none for other references."""
        return reference.tools if _case_of(reference) is not None else ()

    def session(self, reference: Reference | None = None) -> AbstractContextManager[ToolSession]:
        """Open a case."""
        return _session(reference)


@contextmanager
def _session(reference: Reference | None) -> Generator[ToolSession]:
    case = _case_of(reference) if reference is not None else None
    simulators = _simulators(case) if case is not None else {}
    offered = {tool.name for tool in reference.tools} if reference is not None else set[str]()

    def run(call: ToolCall) -> ToolResult:
        start = time.monotonic()
        content, status = _run(simulators, offered, call)
        return ToolResult(
            call_id=call.call_id,
            content=content,
            status=status,
            duration_s=time.monotonic() - start,
            output_chars=len(content),
        )

    def state() -> Any:
        public = {
            name: {key: value for key, value in vars(one).items() if not key.startswith("_")}
            for name, one in simulators.items()
        }
        return json.loads(json.dumps(public, default=str))

    yield ToolSession(run=run, state=state)


def _case_of(reference: Reference) -> Case | None:
    case = find_case(reference.reference_id)
    return case if case is not None and case.multi_turn else None


def _simulators(case: Case) -> Mapping[str, Any]:
    paths = importlib.import_module("bfcl_eval.constants.executable_backend_config")
    made: dict[str, Any] = {}
    for name in case.row["involved_classes"]:
        try:
            simulator = getattr(importlib.import_module(paths.CLASS_FILE_PATH_MAPPING[name]), name)()
        except (ImportError, KeyError, AttributeError) as failure:
            raise ToolBackendError(f"the simulator {name} of {case.case_id} cannot be made: {failure}") from failure
        if name not in paths.STATELESS_CLASSES:
            first = copy.deepcopy(case.row["initial_config"].get(name, {}))
            simulator._load_scenario(first, long_context="long_context" in case.category)
        made[name] = simulator
    return made


def _run(simulators: Mapping[str, Any], offered: set[str], call: ToolCall) -> tuple[str, ToolStatus]:
    if call.parse_error is not None:
        return f"Error during execution: {call.parse_error}", ToolStatus.ERROR
    owner = next((one for one in simulators.values() if hasattr(one, call.name)), None)
    if owner is None or call.name not in offered:
        return f"Error during execution: there is no function {call.name!r}", ToolStatus.ERROR
    if (refused := refusal_of(call.name, call.arguments)) is not None:
        return f"Error during execution: {refused}", ToolStatus.ERROR
    digits = mpmath.mp.dps
    try:
        with localcontext():  # MathAPI sets the precision of the whole process
            result = getattr(owner, call.name)(**call.arguments)
    except Exception as failure:  # what a simulator makes of a student's arguments is shown to the student
        return f"Error during execution: {failure}", ToolStatus.ERROR
    finally:
        mpmath.mp.dps = digits
    if isinstance(result, str):
        return result, ToolStatus.OK
    try:
        return json.dumps(result) if isinstance(result, dict) else str(result), ToolStatus.OK
    except (TypeError, ValueError):
        return str(result), ToolStatus.OK
