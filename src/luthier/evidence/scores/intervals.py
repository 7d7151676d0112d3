"""Bootstrap intervals for any score that is a function of summed per-row counts.

Rows are drawn again with replacement, 2,000 times; a draw is a vector of weights, so that the sums of all
draws are one matrix product. Rows that share a group (questions on one passage) stand or fall together: their
counts are summed first and whole groups are drawn (the cluster bootstrap: Davison & Hinkley 1997, section
3.8; Field & Welsh 2007). Models are drawn with the *same* weights, which makes their differences paired
(Koehn 2004).

Three corrections keep small samples honest:
- the percentiles are widened as Student's t is wider than the normal (the expanded percentile interval,
  Hesterberg 2015, section 4.2.5): at 10 units 0.9 % and 99.1 % instead of 2.5 % and 97.5 %, at 1,000 no
  change;
- where a fraction p of n units has n p (1 - p) < 5 - all right, all wrong, few units - resampling cannot see
  what it never drew (all right gives [1, 1]); there the interval also covers Wilson's score interval (Wilson
  1927), which at 100 right of 100 begins at 96.3 %, close to the "rule of three" (Hanley & Lippman-Hand
  1983);
- a difference resting on fewer than six units is never told from zero: the exact sign (McNemar) test of five
  units, all on one side, has p = 2 / 2**5 = 0.0625.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Callable[[Array], Mapping[str, Array]]
Interval = tuple[float, float]
Difference = tuple[float, float, float]

DRAWS = 2_000
CHUNK = 4_000_000  # weights held at once: 32 MB
FEW_EVENTS = 5.0  # n p (1 - p) under which Wilson's interval is covered too
FEWEST_DIFFERENT = 6  # units that must differ before a difference can be told from zero
Z = 1.959963984540054


def sum_by_group(counts: Array, groups: Sequence[Hashable] | None) -> Array:
    """Per-row counts [rows x k] summed to [units x k], units as first seen; None: each row is one."""
    if groups is None:
        return counts
    place: dict[Hashable, int] = {}
    units = np.array([place.setdefault(group, len(place)) for group in groups], dtype=np.intp)
    sums = np.zeros((len(place), counts.shape[1]))
    np.add.at(sums, units, counts)
    return sums


def resample(counts: Mapping[str, Array], scores: Scores, seed: int, draws: int = DRAWS) -> dict[str, dict[str, Array]]:
    """Scores of every draw: model -> score key -> [draws].

    `counts` holds one [units x k] array a model, all with the same units in the same order; each draw weighs
    the units of all models alike. Columns that are zero everywhere (most cells of a large confusion matrix)
    are not multiplied. Memory stays near 64 MB whatever the rows. The same seed gives the same numbers.
    """
    units = len(next(iter(counts.values())))
    used = {name: np.flatnonzero(table.any(axis=0)) for name, table in counts.items()}
    narrow = {name: np.ascontiguousarray(table[:, used[name]]) for name, table in counts.items()}
    parts: dict[str, dict[str, list[Array]]] = {name: {} for name in counts}
    for weights in _weights(units, draws, seed):
        for name, table in counts.items():
            sums = np.zeros((len(weights), table.shape[1]))
            sums[:, used[name]] = weights @ narrow[name]
            for key, values in scores(sums).items():
                parts[name].setdefault(key, []).append(np.asarray(values, dtype=np.float64))
    return {name: {key: np.concatenate(chunks) for key, chunks in by_key.items()} for name, by_key in parts.items()}


def percentile(values: Array, units: int) -> Interval:
    """The expanded percentile interval of bootstrap draws [draws] on `units` units; NaN left out."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan
    tail = 100 * _tail(units)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def score_interval(
    point: float, values: Array, units: int, bottom: float | None = 0.0, top: float | None = 1.0
) -> Interval:
    """The interval of a score: percentiles, and Wilson's interval too where too few events were seen.

    `bottom` and `top` bound the score. None: unbounded, and nothing is widened; of one unit alone nothing can then be
    said, which is NaN. Else the point always lies inside.
    """
    low, high = percentile(values, units)
    low, high = min(low, point), max(high, point)
    if bottom is None or top is None:
        return (low, high) if units > 1 else (math.nan, math.nan)
    fraction = (point - bottom) / (top - bottom)
    if units * fraction * (1 - fraction) < FEW_EVENTS:
        wide_low, wide_high = wilson(fraction, units)
        low = min(low, bottom + wide_low * (top - bottom))
        high = max(high, bottom + wide_high * (top - bottom))
    return max(low, bottom), min(high, top)


def difference_interval(point: float, values: Array, units: int, different: int) -> Difference:
    """[mean, low, high] of a paired difference ; on `different` units the models differ."""
    low, high = percentile(values, units)
    low, high = min(low, point), max(high, point)
    if different < FEWEST_DIFFERENT:
        low, high = min(low, 0.0), max(high, 0.0)
    return point, low, high


def wilson(fraction: float, units: int) -> Interval:
    """Wilson's 95 % score interval of a fraction seen in `units` units (1927). 0 units: [0, 1]."""
    if units < 1:
        return 0.0, 1.0
    share = Z * Z / units
    middle = (fraction + share / 2) / (1 + share)
    half = Z * math.sqrt(fraction * (1 - fraction) / units + share / (4 * units)) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)


def _weights(units: int, draws: int, seed: int) -> Iterator[Array]:
    """How often each unit was drawn, [some draws x units] at a time: uniform picks, counted."""
    random = np.random.default_rng(seed)
    step = max(1, min(draws, CHUNK // max(1, units)))
    for start in range(0, draws, step):
        number = min(step, draws - start)
        picks = random.integers(0, units, size=(number, units))
        picks += np.arange(number)[:, None] * units
        yield np.bincount(picks.ravel(), minlength=number * units).reshape(number, units).astype(np.float64)


def _tail(units: int) -> float:
    """The share left out on either side, 0.025 for many units, less for few (Hesterberg 2015)."""
    from scipy.special import ndtr, stdtrit

    if units < 2:
        return 0.0
    wide = stdtrit(units - 1, 0.975) * math.sqrt(units / (units - 1))
    return float(ndtr(-wide))
