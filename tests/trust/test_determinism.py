"""B25 with few trials: benchmarks/trust/determinism.py has every kind of run under five hash seeds."""

from __future__ import annotations

import determinism
import pytest
from bars import hold


def test_the_same_recipe_data_and_seed_give_the_same_run() -> None:
    outcome = hold(determinism.BAR, 3, seed=1)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", determinism.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(determinism.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
