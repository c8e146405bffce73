"""A stateful environment: one cart per trajectory."""

from __future__ import annotations

import os
import time


class Cart:
    """A shopping cart."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def put(self, item: str, count: int = 1) -> dict[str, int]:
        """Put an item into the cart.

        Args:
            item: What.
            count: How many.
        """
        self.items[item] = self.items.get(item, 0) + count
        return self.items

    def show(self) -> dict[str, int]:
        """Show the cart."""
        return self.items

    def hang(self) -> None:
        """Never come back."""
        time.sleep(3600)

    def crash(self) -> None:
        """Die."""
        os._exit(1)


class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no stock")

    def show(self) -> str:
        """Show."""
        return ""


class Shelf:
    """Starts with what the reference says, tells its state, and judges it."""

    def __init__(self, initial_state: dict[str, int] | None) -> None:
        self.stock = dict(initial_state or {"egg": 3})

    def take(self, item: str) -> int:
        """Take one.

        Args:
            item: What.
        """
        self.stock[item] -= 1
        return self.stock[item]

    def hang(self) -> None:
        """Never come back."""
        time.sleep(3600)

    def state(self) -> dict[str, int]:
        """Tell what is left."""
        return self.stock

    def score(self) -> float:
        """Judge: full marks for an empty shelf."""
        return float(not any(self.stock.values()))
