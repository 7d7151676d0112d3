"""B3 with few trials: benchmarks/trust/signals.py has every phase, signal and way."""

from __future__ import annotations

import pytest
import signals
from bars import hold


def test_asked_to_stop_a_run_loses_no_more_than_a_step() -> None:
    outcome = hold(signals.BAR, 2, seed=2)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", signals.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(signals.BAR, 2, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
