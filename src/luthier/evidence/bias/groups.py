"""Scores by the values of a column: gaps of accuracy, true and false positive rate, selection rate.

The rates are fairlearn's (Bird et al. 2020). Their intervals are the bootstrap's over the same units as every other
score, since a rate is a share of summed counts. A gap is that between the highest and the lowest group; its interval is
widened for the number of pairs of groups and of rates that were looked at (Bonferroni), and never narrower than
Newcombe's for two shares (1998, method 10), which few rows cannot fool.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from luthier.errors import InputError
from luthier.records import Answer, Form, Row

from ..scores.intervals import Array, percentile, resample, score_interval, sum_by_group

FEWEST = 10  # rows that a rate must rest on before its group is judged
MOST_GROUPS = 20
MOST_LABELS = 20
NAMES = {
    "accuracy": "accuracy",
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "selection_rate": "selection rate",
    "quality": "mean quality",
    "mean_absolute_error": "mean absolute error",
    "mean_prediction": "mean prediction",
    "label_rate": "share",
    "entity_rate": "share of rows with an entity",
    "unanswerable_rate": "share of questions without an answer",
    "mean_number": "mean number",
}
_Z = 1.959963984540054


@dataclass(frozen=True)
class Rate:
    """One score of one group: a share of `rows`; NaN where it has none. `label` is "" for a score of all labels."""

    group: str
    metric: str
    label: str
    rows: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """The largest difference of a score between two groups that have rows enough, [low, high] corrected."""

    metric: str
    label: str
    highest: str
    lowest: str
    value: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        return self.low > 0


@dataclass
class Grouped:
    """All of one column."""

    column: str
    groups: dict[str, int]
    missing: int
    rates: list[Rate]
    gaps: list[Gap]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def audit_groups(
    column: str,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    form: Form,
    quality: Sequence[float],
    units: Sequence[int] | None,
    seed: int,
    positive: str | None = None,
) -> Grouped:
    """Every score by the values of `column`; InputError where it has one value, or too many to be groups.

    `quality`: 0..1 a row, which tasks without labels are held by. `positive`: of two labels the one that counts as
    selected (without it the one that comes last by name); of more, each is held against the rest.
    """
    there, of, groups = members(column, rows, "the test rows")
    scores = _scores([rows[i] for i in there], [answers[i] for i in there], form, [quality[i] for i in there], positive)
    places = list(there) if units is None else [units[i] for i in there]
    return Grouped(column, groups, len(rows) - len(there), *rates_and_gaps(list(groups), of, scores, places, seed))


def members(column: str, rows: Sequence[Row], of_what: str) -> tuple[list[int], list[str], dict[str, int]]:
    """The rows that have a value, each one's group, and the groups with their rows, the largest first.

    InputError where the column has one value, or too many to be groups.
    """
    values = [row.get(column) for row in rows]
    there = [i for i, value in enumerate(values) if value is not None and str(value).strip()]
    of = [str(values[i]).strip() for i in there]
    groups = Counter(of)
    if len(groups) < 2:
        known = "has only one value" if groups else "is empty"
        raise InputError(f'the column "{column}" {known} in {of_what}', fix="name a column that tells groups apart")
    if len(groups) > MOST_GROUPS:
        found = f'the column "{column}" has {len(groups):,} values, expected at most {MOST_GROUPS} groups'
        raise InputError(found, fix="write bands instead of numbers (20-39, 40-59), or join rare values")
    return there, of, dict(sorted(groups.items(), key=lambda one: (-one[1], one[0])))


@dataclass(frozen=True)
class Score:
    """One score: of each row 0..1 (or any number), and whether it counts among the score's rows."""

    metric: str
    label: str
    values: Array
    among: Array
    bounded: bool = True


def _scores(
    rows: Sequence[Row], answers: Sequence[Answer], form: Form, quality: Sequence[float], positive: str | None
) -> list[Score]:
    kind, target = form[form.target].kind, form.target
    ones = np.ones(len(rows))
    if kind == "number":
        numbers = np.array([answer.prediction for answer in answers], dtype=float)
        error = np.abs(np.array([row[target] for row in rows], dtype=float) - numbers)
        return [
            Score("mean_absolute_error", "", error, ones, False),
            Score("mean_prediction", "", numbers, ones, False),
        ]
    if kind not in ("label", "labels"):
        return [Score("quality", "", np.asarray(quality, dtype=float), ones)]
    due, given = ([_set(x) for x in some] for some in ([r[target] for r in rows], [a.prediction for a in answers]))
    out = [Score("accuracy", "", np.array([a == b for a, b in zip(due, given)], dtype=float), ones)]
    counts = Counter(label for some in (*due, *given) for label in some)
    labels = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_LABELS]
    if positive is not None and positive not in counts:
        found = f'no test row and no answer has the label "{positive}"'
        raise InputError(found, where="--positive", fix=f"one of: {', '.join(sorted(counts)[:20])}")
    if positive is not None:
        labels = [positive]
    elif kind == "label" and len(counts) == 2:
        labels = [max(counts)]
    for label in labels:
        gold, told = (np.array([label in one for one in some], dtype=float) for some in (due, given))
        out += [
            Score("true_positive_rate", label, told, gold),
            Score("false_positive_rate", label, told, 1 - gold),
            Score("selection_rate", label, told, ones),
        ]
    return out


def _set(value: Any) -> frozenset[str]:
    """A row's labels; none where an answer was refused."""
    if value is None:
        return frozenset()
    return frozenset(map(str, value)) if isinstance(value, (list, tuple, set)) else frozenset([str(value)])


def rates_and_gaps(
    names: Sequence[str],
    of: Sequence[str],
    scores: Sequence[Score],
    places: Sequence[int],
    seed: int,
    columns: int = 1,
) -> tuple[list[Rate], list[Gap]]:
    """Points from fairlearn, intervals from the bootstrap of the counts that they are made of; gaps are corrected for
    all pairs and scores that were looked at, in so many `columns`.
    """
    place = {name: i for i, name in enumerate(names)}
    member = np.zeros((len(of), len(names)))
    member[np.arange(len(of)), [place[name] for name in of]] = 1
    parts = [part for s in scores for part in ((s.values * s.among)[:, None] * member, s.among[:, None] * member)]
    summed = sum_by_group(np.concatenate(parts, 1), places)
    shape = (len(scores), 2, len(names))

    def ratio(sums: Array) -> Mapping[str, Array]:
        cells = sums.reshape(*sums.shape[:-1], *shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = cells[..., 0, :] / cells[..., 1, :]
        return {f"{s}/{g}": found[..., s, g] for s in range(len(scores)) for g in range(len(names))}

    drawn = resample({"x": summed}, ratio, seed)["x"]
    counted = summed.sum(0).reshape(shape)[:, 1].astype(int)
    judged = [[g for g in range(len(names)) if counted[s, g] >= FEWEST] for s in range(len(scores))]
    looks = max(1, columns * sum(len(some) * (len(some) - 1) // 2 for some in judged))
    rates, gaps = [], []
    for s, score in enumerate(scores):
        points = fairlearn_rates(score.metric, score.values, score.among, of, names)
        for g, name in enumerate(names):
            point, own = points[g], int(np.count_nonzero(summed[:, (2 * s + 1) * len(names) + g]))
            ends = (math.nan, math.nan)
            if not math.isnan(point):
                limits = (0.0, 1.0) if score.bounded else (None, None)
                ends = score_interval(point, drawn[f"{s}/{g}"], own, *limits)
            rates.append(Rate(name, score.metric, score.label, int(counted[s, g]), point, *ends))
        if len(judged[s]) > 1:
            gaps.append(_gap(score, s, judged[s], names, points, counted[s], drawn, looks, len(summed)))
    return rates, gaps


def fairlearn_rates(metric: str, values: Array, among: Array, of: Sequence[str], names: Sequence[str]) -> list[float]:
    """The score of each group; NaN where no row of it counts."""
    import fairlearn.metrics as fairness

    kept = np.flatnonzero(among > 0)
    groups = np.asarray(of, dtype=object)[kept]
    if not len(kept):
        return [math.nan] * len(names)
    # Of the rows that count (all are positive, or none is), the rates are the share that was selected.
    given, due = values[kept], np.ones(len(kept)) if metric != "false_positive_rate" else np.zeros(len(kept))
    own = {
        "true_positive_rate": lambda y, p: fairness.true_positive_rate(y, p, pos_label=1),
        "false_positive_rate": lambda y, p: fairness.false_positive_rate(y, p, pos_label=1),
        "selection_rate": lambda y, p: fairness.selection_rate(y, p, pos_label=1),
    }.get(metric, fairness.mean_prediction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = fairness.MetricFrame(metrics=own, y_true=due, y_pred=given, sensitive_features=groups)
    by_group = frame.by_group.to_dict()
    return [float(by_group.get(name, math.nan)) for name in names]


def _gap(
    score: Score,
    s: int,
    judged: Sequence[int],
    names: Sequence[str],
    points: Sequence[float],
    counted: Any,
    drawn: Mapping[str, Array],
    looks: int,
    units: int,
) -> Gap:
    from scipy.special import ndtr, ndtri

    top = max(judged, key=lambda g: (points[g], -g))
    bottom = min(judged, key=lambda g: (points[g], g))
    value = points[top] - points[bottom]
    z = float(-ndtri(ndtr(-_Z) / looks))
    moved = drawn[f"{s}/{top}"] - drawn[f"{s}/{bottom}"]
    low, high = percentile(moved, units)
    low, high = (value + (end - value) * z / _Z for end in (low, high))
    if score.bounded:
        floor, ceiling = newcombe(points[top], int(counted[top]), points[bottom], int(counted[bottom]), z)
        low, high = min(low, floor), max(high, ceiling)
        low, high = max(low, -1.0), min(high, 1.0)
    return Gap(score.metric, score.label, names[top], names[bottom], value, min(low, value), max(high, value))


def newcombe(p: float, n: int, q: float, m: int, z: float = _Z) -> tuple[float, float]:
    """The interval of p - q, shares of n and of m rows, from the Wilson interval of each (Newcombe 1998)."""
    (a, b), (c, d) = _wilson(p, n, z), _wilson(q, m, z)
    return p - q - math.hypot(p - a, d - q), p - q + math.hypot(b - p, q - c)


def _wilson(p: float, n: int, z: float) -> tuple[float, float]:
    share = z * z / n
    middle, half = (p + share / 2) / (1 + share), z * math.sqrt(p * (1 - p) / n + share / (4 * n)) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)
