"""`python -m mentor_pl_bfcl multi_turn_base --output base.jsonl`: a multi-turn category as a reference file."""

from __future__ import annotations

import argparse
from pathlib import Path

from mentor_pl.errors import MentorError
from mentor_pl.files import write_references
from mentor_pl_bfcl.references import CONVERTED, multi_turn_references


def main() -> None:
    """Convert a category."""
    parser = argparse.ArgumentParser(prog="python -m mentor_pl_bfcl", description=__doc__)
    parser.add_argument("category", choices=CONVERTED)
    parser.add_argument("--output", type=Path, required=True, help="the reference file to write")
    arguments = parser.parse_args()
    try:
        count = write_references(arguments.output, multi_turn_references(arguments.category))
    except (MentorError, OSError) as failure:
        raise SystemExit(f"mentor_pl_bfcl: {failure}") from failure
    print(f"{count} references written to {arguments.output}")


if __name__ == "__main__":
    main()
