"""Several backends as one set of tools: who offers what, and a session that runs a trajectory's calls."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from mentor_pl.errors import ConfigError, PluginError
from mentor_pl.messages import ToolSpec
from mentor_pl.plugins import keeping_contract
from mentor_pl.reference import Reference
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.threads import DaemonThreads
from mentor_pl.tools.toolbox_session import ToolBoxSession


class ToolBox:
    """The tools of all backends, by name.

    Args:
        backends: In the order in which their tools are offered. Owned from here on: `close` closes
            them. Where a prompt's tool is offered by a backend with fixed tools and by one whose
            tools differ from prompt to prompt, the fixed one runs it; of several of the latter the
            first.
        final_tools: Names of tools whose call ends the trajectory, and whose arguments are its
            answer.
        call_timeout_s: Seconds that any call may take. Backends have shorter limits of their own,
            which are the caller's to keep; one that does not keep its own has failed as
            infrastructure.

    Raises:
        ConfigError: Two backends offer tools of one name, or the time limit is not above 0.
        PluginError: A backend cannot tell its tools.
    """

    def __init__(
        self, backends: Sequence[ToolBackend], *, final_tools: Collection[str] = (), call_timeout_s: float = 600.0
    ) -> None:
        if not call_timeout_s > 0:
            raise ConfigError(f"call_timeout_s is {call_timeout_s}; it must be above 0")
        self.final_tools = frozenset(final_tools)
        self.call_timeout_s = call_timeout_s
        self.tells_state = any(backend.tells_state for backend in backends)
        """True where sessions have a final state or score."""
        self.reads_fields = tuple(dict.fromkeys(name for backend in backends for name in backend.reads_fields))
        """Further fields of a reference that decide what a session does."""
        self._backends = tuple(backends)
        self._threads = DaemonThreads("tool calls")
        self._fixed: dict[str, tuple[ToolSpec, ToolBackend]] = {}
        for backend in self._backends:
            for spec in _specs(backend):
                if spec.name in self._fixed:
                    other = self._fixed[spec.name][1]
                    raise ConfigError(
                        f"tool {spec.name!r} is offered by both {type(other).__name__} and {type(backend).__name__}; "
                        "rename one of them, or leave it out of its backend"
                    )
                self._fixed[spec.name] = spec, backend
        self._specs = tuple(spec for spec, _ in self._fixed.values())

    @property
    def impossible_final_tools(self) -> list[str]:
        """Final tools that no prompt can be offered; none where the tools differ from prompt to prompt."""
        if not self._backends or any(backend.per_prompt for backend in self._backends):
            return []
        return sorted(self.final_tools - self._fixed.keys())

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """Every tool that is the same for all prompts."""
        return self._specs

    def owners(self, reference: Reference) -> dict[str, tuple[ToolSpec, ToolBackend]]:
        """Return what is offered to a prompt, in its own order: the spec and the backend by name of the tool."""
        found = dict(self._fixed)
        for backend in self._backends:
            if backend.per_prompt:
                with keeping_contract(backend, ".specs_for"):
                    for spec in backend.specs_for(reference):
                        found.setdefault(spec.name, (spec, backend))
        return {tool.name: found[tool.name] for tool in reference.tools if tool.name in found}

    def offered(self, reference: Reference) -> list[ToolSpec]:
        """Return a prompt's tools as their backends describe them; one that no backend runs as the prompt does."""
        owners = self.owners(reference)
        return [owners[tool.name][0] if tool.name in owners else tool for tool in reference.tools]

    def missing(self, reference: Reference) -> list[str]:
        """Return which of a prompt's tools no backend runs."""
        owners = self.owners(reference)
        return [tool.name for tool in reference.tools if tool.name not in owners]

    @contextmanager
    def session(
        self, reference: Reference | None = None, *, call_timeout_s: float | None = None
    ) -> Generator[ToolBoxSession]:
        """Open a session for one trajectory; a backend's own session opens with the first call to it.

        Args:
            reference: The prompt, whose tools may be called. None offers every tool that is the
                same for all prompts.
            call_timeout_s: Seconds that any call of this session may take; the tool box's own limit
                unless given.
        """
        stack = ExitStack()
        try:
            yield ToolBoxSession(
                reference=reference,
                owners=self._fixed if reference is None else self.owners(reference),
                backends=self._backends,
                final_tools=self.final_tools,
                call_timeout_s=self.call_timeout_s if call_timeout_s is None else call_timeout_s,
                threads=self._threads,
                stack=stack,
            )
        finally:
            with keeping_contract(" or ".join(type(b).__name__ for b in self._backends), ", closing a session,"):
                stack.close()

    def close(self) -> None:
        """Close every backend."""
        self._threads.close()
        for backend in self._backends:
            with keeping_contract(backend, ".close"):
                backend.close()


def _specs(backend: ToolBackend) -> tuple[ToolSpec, ...]:
    with keeping_contract(backend, ".specs"):
        specs: tuple[Any, ...] = tuple(backend.specs)
    if wrong := [spec for spec in specs if not isinstance(spec, ToolSpec)]:
        raise PluginError(f"{type(backend).__name__}.specs holds {wrong[0]!r:.100}; each must be a ToolSpec")
    return specs
