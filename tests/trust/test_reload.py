"""B22 with few trials: benchmarks/trust/reload.py has every method and the full number of damages."""

from __future__ import annotations

import pytest
import reload
from bars import hold


def test_a_tuned_model_answers_in_a_new_process_as_before_or_is_refused_by_name() -> None:
    outcome = hold(reload.BAR, 6, seed=1)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", reload.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(reload.BAR, 3, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
