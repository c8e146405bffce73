"""Two OpenEnv environments on real servers: python demo_server.py game|bank PORT. Needs `openenv-core`, but not mentor-pl."""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import uvicorn
from openenv.core.env_server import create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
from pydantic import Field


class Guess(Action):
    """Guess the number."""

    number: int = Field(description="From 1 to 9.")


class Hint(Observation):
    hint: str = ""
    tries_left: int = 3


class Game(Environment):
    """A number from 1 to 9, found within three guesses."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Hint:
        self.number = kwargs.get("number") or random.Random(seed).randint(1, 9)
        self.tries = 0
        return Hint(hint="from 1 to 9")

    def step(self, action: Guess, timeout_s: float | None = None, **kwargs: Any) -> Hint:
        if action.number == 13:
            time.sleep(3)
        if not 1 <= action.number <= 9:
            raise ValueError("the number lies between 1 and 9")
        self.tries += 1
        found = action.number == self.number
        hint = "found" if found else "higher" if action.number < self.number else "lower"
        return Hint(
            hint=hint,
            tries_left=3 - self.tries,
            done=found or self.tries == 3,
            reward=10.0 / self.tries if found else 0.0,
        )

    @property
    def state(self) -> State:
        return State(episode_id="game", step_count=self.tries, number=self.number, tries=self.tries)

    def get_metadata(self) -> EnvironmentMetadata:
        return EnvironmentMetadata(name="Guess it", description="Guess a number from 1 to 9.")


def bank() -> Any:
    """Make an MCP environment: an account with tools."""
    from fastmcp import FastMCP
    from openenv.core.env_server.mcp_environment import MCPEnvironment

    class Bank(MCPEnvironment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            self.balance = 0
            server = FastMCP("bank")

            @server.tool()
            def pay(amount: int) -> int:
                """Pay an amount in."""
                if amount < 0:
                    raise ValueError("an amount is not negative")
                self.balance += amount
                return self.balance

            super().__init__(server)

        def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> Observation:
            self.balance = kwargs.get("balance", 0)
            return Observation()

        def _step_impl(self, action: Action, timeout_s: float | None = None, **kwargs: Any) -> Observation:
            raise ValueError("only tools")

        @property
        def state(self) -> State:
            return State(balance=self.balance)

    return Bank


if __name__ == "__main__":
    if sys.argv[1] == "game":
        app = create_fastapi_app(Game, Guess, Hint, max_concurrent_envs=16)
    else:
        app = create_fastapi_app(bank(), CallToolAction, CallToolObservation, max_concurrent_envs=8)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
