"""B20, whole: benchmarks/trust/secret_leaks.py."""

from __future__ import annotations

import pytest
import secret_leaks
from bars import hold


def test_no_secret_is_written_or_printed() -> None:
    outcome = hold(secret_leaks.BAR, secret_leaks.BAR.full, seed=1)
    assert outcome.passed, outcome.faults
    assert len(outcome.trials) == len(secret_leaks.ACTIONS) >= 15


@pytest.mark.parametrize("twin", secret_leaks.TWINS)
def test_and_what_would_write_one_is_noticed(twin: str) -> None:
    outcome = hold(secret_leaks.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
