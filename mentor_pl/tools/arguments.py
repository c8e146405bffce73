"""A call's arguments against a tool's JSON Schema, and what is wrong with them in few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator, SchemaError, exceptions

from mentor_pl.errors import ConfigError
from mentor_pl.messages import ToolSpec


class ArgumentsValidator:
    """Checks calls of one tool. Names that the schema does not list are refused, whether or not it says so.

    Args:
        spec: The tool.

    Raises:
        ConfigError: Its parameters are not JSON Schema.
    """

    def __init__(self, spec: ToolSpec) -> None:
        schema = dict(spec.parameters)
        if "patternProperties" not in schema:
            schema.setdefault("additionalProperties", False)
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as wrong:
            raise ConfigError(f"tool {spec.name!r}: its parameters are not JSON Schema: {wrong.message}") from wrong
        self._known = list(cast("Mapping[str, Any]", schema.get("properties", {})))
        self._validator = Draft202012Validator(schema)

    def complaint(self, arguments: Mapping[str, Any]) -> str | None:
        """Say in one line what is wrong with the arguments; None where they are fine."""
        errors = cast("Any", self._validator).iter_errors(dict(arguments))
        worst: Any = cast("Any", exceptions).best_match(errors)
        if worst is None:
            return None
        if worst.validator == "additionalProperties" and not worst.path:
            surplus = sorted(set(arguments) - set(self._known))
            return f"{surplus[0]!r:.80} is not an argument; the arguments are {', '.join(self._known) or 'none'}"
        if worst.validator == "required" and not worst.path:
            missing = next(name for name in worst.validator_value if name not in arguments)
            return f"{missing!r} is missing"
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in worst.path).removeprefix(".")
        return f"{where!r}: {worst.message}"[:300] if where else worst.message[:300]
