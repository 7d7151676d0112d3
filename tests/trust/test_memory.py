"""B29, B30 with few trials: benchmarks/trust has the full numbers in memory.py, memory_limit.py, out_of_memory.py."""

from __future__ import annotations

import memory
import memory_limit
import out_of_memory
import pytest
from bars import Bar, hold

BARS = {
    "memory": (memory.BAR, 1, 52),
    "memory_limit": (memory_limit.BAR, 1, 52),
    "out_of_memory": (out_of_memory.BAR, 2, 1),
}
TWINS = [(name, twin) for name, (bar, _, _) in BARS.items() for twin in bar.twins]


@pytest.mark.parametrize("name", BARS)
def test_what_a_run_holds_is_known_before_and_told_when_it_is_too_much(name: str) -> None:
    bar, count, seed = BARS[name]
    outcome = hold(bar, count, seed)
    assert outcome.passed, outcome.faults


@pytest.mark.parametrize(("name", "twin"), TWINS, ids=[f"{name}-{twin}" for name, twin in TWINS])
def test_and_what_would_break_that_is_noticed(name: str, twin: str) -> None:
    bar: Bar = BARS[name][0]
    assert hold(bar, 2, seed=1, twin=twin).passed
