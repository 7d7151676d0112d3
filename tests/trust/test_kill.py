"""B1, B2 with few trials: benchmarks/trust/kill.py has the full number."""

from __future__ import annotations

import kill
import pytest
from bars import hold


def test_killed_anywhere_a_run_ends_as_one_that_never_was() -> None:
    outcome = hold(kill.BAR, 2, seed=3)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", kill.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(kill.BAR, 3, seed=2, twin=twin)
    assert outcome.passed, str(outcome)
