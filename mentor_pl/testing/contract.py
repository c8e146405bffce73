"""How a checker says that a plugin broke its plugin point's contract."""

from __future__ import annotations

from mentor_pl.errors import PluginError


def require(holds: bool, plugin: object, found: str, contract: str) -> None:
    """Check one clause of a contract.

    Args:
        holds: Whether it is kept.
        plugin: The plugin's instance.
        found: What it did.
        contract: What its plugin point demands.

    Raises:
        PluginError: It is not kept.
    """
    if not holds:
        raise PluginError(f"{type(plugin).__name__}: {found}; {contract}")
