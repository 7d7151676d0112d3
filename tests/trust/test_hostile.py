"""B17 with a part of its cases: benchmarks/trust/hostile.py has all of them."""

from __future__ import annotations

from collections import Counter

import hostile
import pytest
from bars import hold
from careless import TWINS

QUICK = 24


def test_strangers_files_run_nothing_and_are_named_when_they_are_refused() -> None:
    outcome = hold(hostile.BAR, QUICK, seed=2)
    assert outcome.passed, outcome.faults
    assert len(outcome.trials) == QUICK
    kinds = Counter(case.kind for case in hostile.CASES)
    assert kinds["model"] >= 30 and kinds["data"] >= 20 and kinds["recipe"] >= 10 and kinds["template"] >= 25


def test_every_canary_fires_in_careless_hands() -> None:
    """One that could not would prove nothing. Making the files takes milliseconds, so all of them are tried."""
    live = [case for case in hostile.CASES if case.fire is not None]
    assert len(live) >= 40
    assert not [case.name for case in live if not hostile.fires(case)]


@pytest.mark.parametrize("twin", TWINS)
def test_and_what_would_let_them_is_noticed(twin: str) -> None:
    outcome = hold(hostile.BAR, 8, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
    assert len(outcome.trials) <= 2
