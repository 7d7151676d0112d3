"""B27 with few trials: benchmarks/trust/ranks.py has every phase, each of two processes, and all that befalls them."""

from __future__ import annotations

import pytest
import ranks
from bars import hold


@pytest.mark.parametrize("cell", [("killed", "step", 1), ("stopped", "step", 0), ("refuses", "read", 0)], ids=str)
def test_what_befalls_one_of_two_processes_ends_both_and_the_run_goes_on(cell: tuple[str, str, int]) -> None:
    assert ranks.tried(*cell) == ""


@pytest.mark.parametrize("twin", ranks.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(ranks.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
