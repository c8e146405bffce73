"""An OpenEnv server as an environment of a run: its episodes are the prompts, its reward is the reward."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from mentor_pl.environments import Environment
from mentor_pl.errors import ConfigError
from mentor_pl.files.references import reference_from_row
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl.rewards.environment_score import EnvironmentScore
from mentor_pl.rewards.program import RewardProgram, RewardTerm
from mentor_pl_openenv.backend import OpenEnv
from mentor_pl_openenv.episode import written


class OpenEnvEpisodes(Environment):
    """Episodes of an OpenEnv environment, each reset with a seed of its own.

    A prompt is the instructions and the episode's first observation. All attempts at a prompt begin
    alike, which asks of the environment that a seed decides an episode. The references hold no
    teacher's solution.

    Args:
        server: The server, and how it is used.
        instructions: What the student is to do.
        episodes: How many there are.
        first_seed: The seed of the first one; the next ones follow. Give a held-out split others
            than training.
        reward: Unless given: the environment's own (`EnvironmentScore`), which is the success, too.
        **settings: See `Environment`.

    Raises:
        ConfigError: A number cannot be one.
    """

    def __init__(
        self,
        server: OpenEnv,
        instructions: str,
        episodes: int,
        first_seed: int = 0,
        reward: RewardProgram | None = None,
        **settings: Any,
    ) -> None:
        if episodes < 1 or first_seed < 0:
            raise ConfigError(
                f"OpenEnvEpisodes has {episodes} episodes from the seed {first_seed}; give at least 1, from 0 on"
            )
        own = RewardProgram(terms=[RewardTerm(name="score", component=EnvironmentScore(), weight=1.0, success=True)])
        super().__init__(tools=[server], reward=reward or own, **settings)
        self._server, self._instructions = server, instructions
        self._seeds = range(first_seed, first_seed + episodes)

    def read(self, *, max_bad_lines: int = 0) -> tuple[Reference, ...]:
        """Return a reference for each episode.

        Raises:
            ToolBackendError: The server cannot be reached.
        """
        return self._references

    @functools.cached_property
    def _references(self) -> tuple[Reference, ...]:
        made = rows(self._server, seeds=self._seeds, instructions=self._instructions)
        return tuple(reference_from_row(row, f"OpenEnvEpisodes:{place}") for place, row in enumerate(made, start=1))


def rows(server: OpenEnv, *, seeds: range, instructions: str) -> Iterator[dict[str, Any]]:
    """Yield a reference's row for each episode.

    Args:
        server: Where the episodes are reset.
        seeds: Of the episodes.
        instructions: What stands ahead of the first observation.

    Raises:
        ToolBackendError: The server cannot be reached.
    """
    tools = [{"type": "function", "function": spec.to_openai()["function"]} for spec in server.specs]
    for seed in seeds:
        asked = Reference(
            reference_id=f"episode-{seed}",
            prompt=(Message(role="user", content="?"),),
            answer="",
            tools=server.specs,
            fields={server.reset_field: {"seed": seed}},
        )
        with closing(server.episode(asked)) as episode:
            first = episode.open() or {}
        seen = {name: value for name, value in first.items() if value not in (None, "", [], {})}
        prompt = "\n\n".join(part for part in (instructions, written(seen) if seen else "") if part)
        yield {"id": asked.reference_id, "prompt": prompt, "answer": "", "tools": tools, **asked.fields}
