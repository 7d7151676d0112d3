"""B4 with few trials: benchmarks/trust/durability.py has the full number."""

from __future__ import annotations

import durability
import pytest
from bars import hold


def test_a_power_cut_costs_what_was_not_yet_saved() -> None:
    outcome = hold(durability.BAR, 1, seed=2)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", durability.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(durability.BAR, 10, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
