"""B31 on simulated runs: benchmarks/trust/eta.py has the full number."""

from __future__ import annotations

import eta
import pytest
from bars import hold


def test_the_time_left_is_right_within_a_fifth() -> None:
    outcome = hold(eta.BAR, 20, seed=2)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", eta.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    """One trial in fifty fails by chance, so a bug must make more than a tenth of them fail."""
    trials = list(eta.trials(40, 2, twin))
    assert sum(bool(trial.fault) for trial in trials) > 4 == len(trials) / 10
