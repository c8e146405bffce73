"""Writes references for an OpenEnv environment: one prompt for each episode, with its first observation.

    python -m mentor_pl_openenv --url http://localhost:8000 --episodes 100 --instructions "Guess the
    number." --output references.jsonl

Each episode is reset with a seed of its own, which stands in the reference (`reset`), so that every
attempt at a prompt begins alike. The references hold no solution. A run does not need them, since
`OpenEnvEpisodes` makes the same ones; they are for looking at, and for `mentor-pl collect`.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from mentor_pl.files.jsonl import write_rows
from mentor_pl_openenv.backend import OpenEnv
from mentor_pl_openenv.environment import rows


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
        seeds = range(args.first_seed, args.first_seed + args.episodes)
        made = rows(environment, seeds=seeds, instructions=args.instructions)
        print(f"{write_rows(args.output, made)} references in {args.output}")


if __name__ == "__main__":
    main()
