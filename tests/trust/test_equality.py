"""B6 with few trials: benchmarks/trust/equality.py has every kind of run with every change."""

from __future__ import annotations

import equality
import pytest
from bars import hold


@pytest.mark.parametrize("change", [equality.TWO, f"3 {equality.FEW}", equality.AT_ONCE])
def test_what_decides_speed_alone_changes_no_loss_and_no_answer(change: str) -> None:
    assert equality.tried(equality.KINDS[0], change) == ""


@pytest.mark.parametrize("twin", equality.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(equality.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
