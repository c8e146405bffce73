"""Limits on what a collection may spend, that hold also while many requests are under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from mentor_pl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a collection may spend in all, restarts included. None is no limit.

    Attributes:
        max_requests: Replies of the teacher.
        max_tokens: Tokens read and written.
        max_cost: Money, in the currency of the prices.
        price_per_million_prompt_tokens: What a million tokens read cost.
        price_per_million_completion_tokens: What a million tokens written cost.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    price_per_million_prompt_tokens: float = 0.0
    price_per_million_completion_tokens: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 0:
                raise ConfigError(f"budget.{field.name} is {value}; it must not be negative")
        if self.max_cost is not None and not (
            self.price_per_million_prompt_tokens or self.price_per_million_completion_tokens
        ):
            raise ConfigError("budget.max_cost is set but both prices are 0; set what a million tokens cost")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what tokens cost."""
        prompt = prompt_tokens * self.price_per_million_prompt_tokens
        completion = completion_tokens * self.price_per_million_completion_tokens
        return (prompt + completion) / 1e6


class BudgetSpentError(Exception):
    """One more request could exceed the budget."""


@dataclass(slots=True)
class Spending:
    """Requests and tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Account:
    """Keeps within a budget: a request is only made where its worst case still fits beside all that are under way.

    Attributes:
        spent: What was spent so far.
    """

    def __init__(self, budget: Budget, spent: Spending) -> None:
        self.budget = budget
        self.spent = spent
        self._reserved = Spending()
        self._changed = threading.Condition()

    @contextmanager
    def request(self, *, prompt_tokens: int, completion_tokens: int) -> Iterator[Spending]:
        """Spend on one request.

        Args:
            prompt_tokens: Most tokens that it may read.
            completion_tokens: Most tokens that it may write.

        Yields:
            To be filled with what the request really took; nothing, if it failed.

        Raises:
            BudgetSpentError: It could exceed the budget.
        """
        worst = Spending(requests=1, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        with self._changed:
            while not self._fits(worst):
                if not self._reserved.requests:
                    raise BudgetSpentError
                self._changed.wait()  # one under way may take less than its worst case
            _add(self._reserved, worst, 1)
        real = Spending()
        try:
            yield real
        finally:
            with self._changed:
                _add(self._reserved, worst, -1)
                _add(self.spent, real, 1)
                self._changed.notify_all()

    @property
    def cost(self) -> float:
        """Money spent so far."""
        return self.budget.cost(self.spent.prompt_tokens, self.spent.completion_tokens)

    def _fits(self, worst: Spending) -> bool:
        total = Spending()
        for part in (self.spent, self._reserved, worst):
            _add(total, part, 1)
        limits = (
            (self.budget.max_requests, total.requests),
            (self.budget.max_tokens, total.prompt_tokens + total.completion_tokens),
            (self.budget.max_cost, self.budget.cost(total.prompt_tokens, total.completion_tokens)),
        )
        return all(limit is None or amount <= limit for limit, amount in limits)


def _add(to: Spending, part: Spending, sign: int) -> None:
    to.requests += sign * part.requests
    to.prompt_tokens += sign * part.prompt_tokens
    to.completion_tokens += sign * part.completion_tokens
