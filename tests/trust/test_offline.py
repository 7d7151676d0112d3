"""B19 with test files that load no torch: benchmarks/trust/offline.py runs the whole suite so."""

from __future__ import annotations

import offline
import pytest
from bars import hold

pytestmark = pytest.mark.skipif(not offline.without_network(), reason="no right to make a network namespace here")


def test_without_a_network_the_tests_pass_and_nothing_looks_for_one() -> None:
    outcome = hold(offline.BAR, len(offline.QUICK), seed=1)
    assert outcome.passed, outcome.faults
    assert len(outcome.trials) == len(offline.QUICK) + 1


@pytest.mark.parametrize("twin", offline.TWINS)
def test_and_what_would_look_for_one_is_noticed(twin: str) -> None:
    outcome = hold(offline.BAR, 1, seed=1, twin=twin)
    assert outcome.passed, str(outcome)
