"""B5 with few trials on a played disk: benchmarks/trust/disk_full.py has the full number, on one that is full."""

from __future__ import annotations

import os

import disk_full
import pytest
from bars import hold


@pytest.fixture(autouse=True, scope="module")
def played() -> None:
    os.environ[disk_full.PLAYED] = "1"


def test_a_full_disk_costs_nothing_that_was_saved() -> None:
    outcome = hold(disk_full.BAR, 2, seed=47)  # a save and a repaired copy
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize("twin", disk_full.TWINS)
def test_and_what_would_break_that_is_noticed(twin: str) -> None:
    outcome = hold(disk_full.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
