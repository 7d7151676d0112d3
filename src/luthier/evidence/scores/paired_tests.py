"""Is one model better than another on the same rows, or is it chance? Paired tests, corrected for how many there are.

Where rows are right or wrong it is McNemar's exact test (1947) on the rows that only one of the two got right; where
they are more or less right, a permutation test that turns the sign of each row's difference at random (Fisher 1935;
Dror et al. 2018, aclanthology.org/P18-1128), in closed form where units are tens of thousands. Rows of one unit are
turned together. Several comparisons are corrected by Holm's method (1979). The verdict hangs on intervals; these
numbers stand beside it for those who are asked for them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .intervals import Array, sum_by_group

DRAWS = 10_000
SLACK = 0.01  # of a p-value, about as much as ten thousand draws may be off
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
    """Two-sided p-values [k] of sums over units [units x k], the sign of each unit's share turned at random.

    All signs are drawn, but where so many shares are small that their sum is normal to within `SLACK` of a p-value.
    """
    large = [_large(np.abs(column)) for column in shares.T]
    drawn = [place for place, some in enumerate(large) if some is None]
    out = np.empty(shares.shape[1])
    if drawn:
        out[drawn] = _drawn_p(np.ascontiguousarray(shares[:, drawn]), seed)
    for place, some in enumerate(large):
        if some is not None:
            out[place] = _nearly_normal_p(shares[:, place], some, seed)
    return out


def _drawn_p(shares: Array, seed: int) -> Array:
    seen = np.abs(shares.sum(axis=0)) * (1 - 1e-12)
    random, beyond, left = np.random.default_rng(seed), np.zeros(shares.shape[1]), DRAWS
    while left:
        some = max(1, min(left, _CHUNK // max(1, len(shares))))
        signs = random.integers(0, 2, size=(some, len(shares))) * 2.0 - 1.0
        beyond += (np.abs(signs @ shares) >= seen).sum(axis=0)
        left -= some
    return np.asarray((1 + beyond) / (1 + DRAWS))


def _large(sizes: Array) -> NDArray[np.intp] | None:
    """The few units [m] without which the sum of the others, signs turned at random, is nearly normal; None if not few.

    By the theorem of Berry and Esseen the others' distribution is nowhere further from the normal one than the sum of
    their cubes by the 3/2th power of the sum of their squares, times a constant below 0.56 (Shevtsova 2010,
    doi.org/10.1134/S1064562410060062). A p-value has two tails.
    """
    order = np.argsort(-sizes, kind="stable")
    squares, cubes = (np.append(np.cumsum((sizes[order] ** power)[::-1])[::-1], 0.0) for power in (2, 3))
    for few in (0, *(2**power for power in range(9))):
        if few < len(sizes) and squares[few] > 0 and 2 * 0.56 * cubes[few] <= SLACK * squares[few] ** 1.5:
            return order[:few]
    return None


def _nearly_normal_p(shares: Array, large: NDArray[np.intp], seed: int) -> float:
    """The signs of the `large` shares drawn, those of the others taken for one normal variable."""
    from scipy.special import ndtr

    seen = abs(float(shares.sum()))
    spread = float(np.sqrt(np.square(np.delete(shares, large)).sum()))
    signs = np.random.default_rng(seed).integers(0, 2, size=(DRAWS if len(large) else 1, len(large))) * 2.0 - 1.0
    drawn = signs @ shares[large]
    # Less than one draw in all is no more than the draws of few units could tell, nor than the bound is good for.
    return max(1 / (1 + DRAWS), float((ndtr((drawn - seen) / spread) + ndtr(-(drawn + seen) / spread)).mean()))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for their number (Holm 1979), by the same names."""
    out, worst = {}, 0.0
    for place, name in enumerate(sorted(values, key=values.__getitem__)):
        worst = max(worst, min(1.0, (len(values) - place) * values[name]))
        out[name] = worst
    return {name: out[name] for name in values}
