"""Is one model better than another on the same rows, or is it chance? Paired tests, corrected for how many there are.

Where rows are right or wrong it is McNemar's exact test (1947) on the rows that only one of the two got right; where
they are more or less right, a permutation test that turns the sign of each row's difference at random (Fisher 1935;
Dror et al. 2018, aclanthology.org/P18-1128). Rows of one unit are turned together. Several comparisons are corrected by
Holm's method (1979). The verdict hangs on intervals; these numbers stand beside it for those who are asked for them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from .intervals import Array, sum_by_group

DRAWS = 10_000
_CHUNK = 4_000_000


def paired_p(ours: Array, theirs: Array, units: Sequence[Hashable] | None, seed: int = 0) -> float:
    """The two-sided p-value of the difference between two models' quality [rows]; 1 where they never differ."""
    differences = sum_by_group((np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))[:, None], units)[:, 0]
    apart = differences[differences != 0]
    if not len(apart):
        return 1.0
    if np.unique(np.abs(apart)).size == 1:
        from scipy.stats import binomtest

        return float(binomtest(int((apart > 0).sum()), len(apart)).pvalue)
    return float(turned_p(apart[:, None], seed)[0])


def turned_p(shares: Array, seed: int = 0) -> Array:
    """Two-sided p-values [k] of sums over units [units x k], the sign of each unit's share turned at random."""
    seen = np.abs(shares.sum(axis=0)) * (1 - 1e-12)
    random, beyond, left = np.random.default_rng(seed), np.zeros(shares.shape[1]), DRAWS
    while left:
        some = max(1, min(left, _CHUNK // max(1, len(shares))))
        signs = random.integers(0, 2, size=(some, len(shares))) * 2.0 - 1.0
        beyond += (np.abs(signs @ shares) >= seen).sum(axis=0)
        left -= some
    return np.asarray((1 + beyond) / (1 + DRAWS))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm 1979), by the same names."""
    out, worst = {}, 0.0
    for place, name in enumerate(sorted(values, key=values.__getitem__)):
        worst = max(worst, min(1.0, (len(values) - place) * values[name]))
        out[name] = worst
    return {name: out[name] for name in values}
