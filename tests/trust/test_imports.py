"""B7 with few trials: benchmarks/trust/imports.py has the full number."""

from __future__ import annotations

import imports
import pytest
from bars import hold

ROUND = 2700  # trials: every kind of file once


def test_every_planted_fault_is_told_and_no_other_row_is_lost() -> None:
    outcome = hold(imports.BAR, ROUND, seed=3)
    assert outcome.passed, outcome.faults
    kinds = {trial.name.split(" ")[0] for trial in outcome.trials}
    assert kinds >= {*imports.FILES, "folder", "empty.jsonl", "utf32.jsonl"}


@pytest.mark.parametrize("twin", imports.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(imports.BAR, ROUND, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
