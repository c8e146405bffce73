"""When success counts as fallen."""

from __future__ import annotations

import pytest

from benchmarks.collapse import fell_at


@pytest.mark.parametrize(
    ("successes", "update"),
    [
        ([0.3, 0.28, 0.26, 0.2], 4),  # under 0.27 from there on
        ([0.3, 0.2, 0.29, 0.2], 6),  # it had come back in between
        ([0.3, 0.4, 0.37, 0.37], None),  # 0.36 is nine tenths of the best
        ([0.3, 0.4, 0.5], None),
    ],
)
def test_it_has_fallen_where_it_never_comes_back(successes: list[float], update: int | None) -> None:
    assert fell_at([(2 * place, success) for place, success in enumerate(successes)]) == update
