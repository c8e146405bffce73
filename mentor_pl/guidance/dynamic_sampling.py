"""Which prompts a round is spent on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mentor_pl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicSampling:
    """Replaces prompts whose groups hold no signal by others (DAPO, arXiv:2503.14476 section 3.2), up to a limit.

    A group without signal is one of successes only or of failures only. The shaped reward does not
    decide: filtering by it is known to destroy policies. Which prompt replaces which depends on the
    seed, the round and the place alone: so it is the same on any number of ranks, and nothing has
    to be saved.

    Attributes:
        max_refills: How often a place in the round may be filled anew; what it then holds is
            trained on, signal or not.
        replace: Groups that are replaced: `solved` (all succeed), `failed` (none does) or `both`.
    """

    max_refills: int = 2
    replace: str = "both"

    def __post_init__(self) -> None:
        if self.max_refills < 1 or self.replace not in ("solved", "failed", "both"):
            raise ConfigError(
                f"guidance.dynamic_sampling: max_refills {self.max_refills} must be at least 1, replace {self.replace!r} one of solved, "
                "failed, both"
            )

    def without_signal(self, successes: Sequence[bool]) -> bool:
        """Tell whether a group with these successes is to be replaced."""
        solved, failed = all(successes), not any(successes)
        return (solved and self.replace != "failed") or (failed and self.replace != "solved")

    def substitutes(
        self, drawn: Sequence[int], environments: Sequence[str], *, seed: int, round_index: int
    ) -> list[list[int]]:
        """Return, for each place of a round, the prompts that may fill it, in order. No prompt occurs twice.

        They are of the same environment as the one that they replace.

        Args:
            drawn: The round's own prompts, of all ranks.
            environments: Of each prompt there is.
            seed: Of the run.
            round_index: The round.
        """
        taken = set(drawn)
        others = [i for i in range(len(environments)) if i not in taken]
        random.Random(f"{seed}/substitutes/{round_index}").shuffle(others)
        out: list[list[int]] = [[] for _ in drawn]
        for environment in dict.fromkeys(environments):
            places = [place for place, prompt in enumerate(drawn) if environments[prompt] == environment]
            candidates = [prompt for prompt in others if environments[prompt] == environment]
            for number, place in enumerate(places):
                out[place] = candidates[number :: len(places)][: self.max_refills]
        return out
