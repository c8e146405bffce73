"""Several backends as one set of tools: who offers what, who runs which call, and what a failure is called."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager

from mentor_pl.errors import ConfigError, ToolBackendError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec, ToolStatus
from mentor_pl.tools.base import ToolBackend, ToolSession
from mentor_pl.tools.results import failed, refused

_ATTEMPTS = 2


class ToolBox:
    """The tools of all backends, by name.

    Args:
        backends: In the order in which their tools are offered. Owned from here on: `close` closes them.

    Raises:
        ConfigError: Two backends offer tools of one name.
    """

    def __init__(self, backends: Sequence[ToolBackend]) -> None:
        self._backends = tuple(backends)
        self._owner: dict[str, ToolBackend] = {}
        specs: list[ToolSpec] = []
        for backend in self._backends:
            for spec in backend.specs:
                if (other := self._owner.get(spec.name)) is not None:
                    raise ConfigError(
                        f"tool {spec.name!r} is offered by both {type(other).__name__} and {type(backend).__name__}; "
                        "rename one of them, or leave it out of its backend"
                    )
                self._owner[spec.name] = backend
                specs.append(spec)
        self._specs = tuple(specs)

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """Every tool of every backend."""
        return self._specs

    def is_slow(self, name: str) -> bool:
        """Say whether calls of this tool wait on something remote; False for an unknown tool, which never runs."""
        return name in self._owner and self._owner[name].slow

    @contextmanager
    def session(self, offered: Collection[str] | None = None) -> Generator[ToolSession]:
        """Open a session for one trajectory; a backend's own session opens with the first call to it.

        Args:
            offered: Names that the trajectory's prompt offers; calls of others are refused. None offers all.

        Yields:
            Runs one call. It never raises: a malformed, unknown or not offered call is an error that runs nothing, and failed
            infrastructure, tried twice, is a result with that status.
        """
        names = [spec.name for spec in self._specs if offered is None or spec.name in offered]
        with ExitStack() as stack:
            open_sessions: dict[int, ToolSession] = {}

            def opened(backend: ToolBackend) -> ToolSession:
                if id(backend) not in open_sessions:
                    open_sessions[id(backend)] = stack.enter_context(backend.session())
                return open_sessions[id(backend)]

            def run(call: ToolCall) -> ToolResult:
                if refusal := refused(call, names):
                    return refusal
                return _persevere(call, lambda: opened(self._owner[call.name])(call))

            yield run

    def close(self) -> None:
        """Close every backend."""
        for backend in self._backends:
            backend.close()


def _persevere(call: ToolCall, attempt: Callable[[], ToolResult]) -> ToolResult:
    start = time.perf_counter()
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            return attempt()
        except ToolBackendError as failure:
            reason = str(failure)
        except RecursionError:  # JSON that could just be read may be too deep to be written again
            return failed(call, f"{call.name}: the arguments are nested too deeply")
    duration_s = time.perf_counter() - start
    return failed(
        call, f"{call.name} is unavailable: {reason}", status=ToolStatus.INFRASTRUCTURE, duration_s=duration_s
    )
