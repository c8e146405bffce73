"""What backends share whose tools belong to the prompt: the specs, and the check of a call against its schema."""

from __future__ import annotations

import functools
import json

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolCall, ToolResult, ToolSpec
from mentor_pl.reference import Reference
from mentor_pl.tools.arguments import ArgumentsValidator
from mentor_pl.tools.base import ToolBackend
from mentor_pl.tools.results import failed, refused


class PromptTools(ToolBackend):
    """Base of a backend that takes the tools of a prompt, described by itself or, where it only names them, by a backend.

    Args:
        described_by: Describes tools that a prompt only names; runs nothing. Closed together with
            this one.
    """

    per_prompt = True

    def __init__(self, described_by: ToolBackend | None = None) -> None:
        self._described_by = described_by
        self._described = {spec.name: spec for spec in described_by.specs} if described_by is not None else {}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """None: the tools belong to the prompts."""
        return ()

    def close(self) -> None:
        """Close the backend that describes."""
        if self._described_by is not None:
            self._described_by.close()

    def specs_for(self, reference: Reference) -> tuple[ToolSpec, ...]:
        """Return the tools of a prompt.

        Raises:
            ConfigError: The parameters of one are not JSON Schema.
        """
        specs = tuple(self._described.get(tool.name, tool) if _is_name_only(tool) else tool for tool in reference.tools)
        for spec in specs:
            try:
                _validator(json.dumps(spec.to_openai()))
            except ConfigError as wrong:
                raise ConfigError(
                    f"reference {reference.reference_id!r}: {wrong}; mend or leave out that row"
                ) from wrong
        return specs

    def refusal(self, call: ToolCall, specs: tuple[ToolSpec, ...]) -> ToolResult | None:
        """Return the error of a call that names no tool of these, or does not fit its schema; None where it is fine.

        Of a tool that is only named, any arguments are fine.
        """
        if refusal := refused(call, [spec.name for spec in specs]):
            return refusal
        spec = next(spec for spec in specs if spec.name == call.name)
        if _is_name_only(spec):
            return None
        complaint = _validator(json.dumps(spec.to_openai())).complaint(call.arguments)
        return None if complaint is None else failed(call, f"{call.name}: {complaint}")


def _is_name_only(spec: ToolSpec) -> bool:
    return spec == ToolSpec(name=spec.name)


@functools.lru_cache(maxsize=4096)
def _validator(spec: str) -> ArgumentsValidator:
    return ArgumentsValidator(ToolSpec(**json.loads(spec)["function"]))
