"""Writes references for an OpenEnv environment: one prompt for each episode, with its first observation.

    python -m mentor_pl_openenv --url http://localhost:8000 --episodes 100 --instructions "Guess the number." --output references.jsonl

Each episode is reset with a seed of its own, which stands in the reference (`reset`), so that every attempt at a prompt begins alike. The
references hold no solution: train on the environment's reward (`EnvironmentScore`), or give them to `mentor-pl collect`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from mentor_pl.files.jsonl import write_rows
from mentor_pl.messages import Message
from mentor_pl.reference import Reference
from mentor_pl_openenv.backend import OpenEnv
from mentor_pl_openenv.episode import written


def rows(environment: OpenEnv, *, episodes: int, instructions: str, first_seed: int) -> Iterator[dict[str, Any]]:
    """Yield a reference's row for each episode."""
    tools = [spec.name for spec in environment.specs]
    for seed in range(first_seed, first_seed + episodes):
        asked = Reference(
            reference_id=f"episode-{seed}",
            prompt=(Message(role="user", content="?"),),
            answer="",
            tools=environment.specs,
            fields={"reset": {"seed": seed}},
        )
        with closing(environment.episode(asked)) as episode:
            first = episode.open() or {}
        seen = {name: value for name, value in first.items() if value not in (None, "", [], {})}
        prompt = "\n\n".join(part for part in (instructions, written(seen) if seen else "") if part)
        yield {"id": asked.reference_id, "prompt": prompt, "answer": "", "tools": tools, "reset": {"seed": seed}}


def main() -> None:
    """Write a reference file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--episodes", type=int, required=True)
    parser.add_argument("--instructions", required=True, help="what the student is to do, ahead of the observation")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--name", help="of the tool; give the same to the backend")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with closing(OpenEnv(args.url, name=args.name)) as environment:
        made = rows(environment, episodes=args.episodes, instructions=args.instructions, first_seed=args.first_seed)
        print(f"{write_rows(args.output, made)} references in {args.output}")


if __name__ == "__main__":
    main()
