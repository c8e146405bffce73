"""A shop's order desk: one instance per conversation, whose orders are the state that the reward looks at."""

from __future__ import annotations

from typing import Any


class Shop:
    """Orders by number, each with an item and a status."""

    def __init__(self, initial_state: dict[str, Any] | None) -> None:
        self.orders: dict[str, dict[str, str]] = {
            number: dict(order) for number, order in (initial_state or {}).get("orders", {}).items()
        }

    def find_order(self, number: str) -> dict[str, str]:
        """Look an order up.

        Args:
            number: Its number.
        """
        return self.orders[number]

    def cancel_order(self, number: str) -> str:
        """Cancel an order that has not been shipped.

        Args:
            number: Its number.
        """
        if self.orders[number]["status"] == "shipped":
            raise ValueError("a shipped order cannot be cancelled")
        self.orders[number]["status"] = "cancelled"
        return "cancelled"

    def change_item(self, number: str, item: str) -> str:
        """Change what an order is for.

        Args:
            number: Its number.
            item: The new item.
        """
        self.orders[number]["item"] = item
        return "changed"

    def state(self) -> dict[str, Any]:
        """Tell the orders; the reward compares them with those that the teacher leaves behind."""
        return {"orders": self.orders}
