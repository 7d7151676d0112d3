"""Scores of a model on rows, with intervals, beside baselines on the same rows: `evaluate`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import LuthierError
from ...records import Answer, Form, Row, Table
from .intervals import (
    CHUNK,
    Array,
    Difference,
    Interval,
    difference_interval,
    resample,
    score_interval,
    sum_by_group,
)
from .measures import measure
from .paired_tests import holm, paired_p

BASELINES = ("trivial", "classical", "untuned", "few-shot")
OPTIONAL = frozenset({"few-shot"})  # those without which a verdict is whole
TUNED = "tuned model"
UNTUNED = "untuned model"  # what that baseline is called


class ScoredTask(Protocol):
    """What evidence asks of a task. `primary` is the score that decides."""

    @property
    def name(self) -> str: ...
    @property
    def form(self) -> Form: ...
    @property
    def primary(self) -> str: ...

    def counts(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Array:
        """Sufficient statistics of each row, [rows x k]."""
        ...

    def scores(self, sums: Array) -> Mapping[str, Any]:
        """Every score from summed counts [..., k]; NaN where it is not defined."""
        ...

    def quality(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Array:
        """How good each answer is, 0..1, [rows]."""
        ...

    def correct(self, rows: Sequence[Row], answers: Sequence[Answer]) -> NDArray[np.bool_]:
        """Which answers count as right, [rows]."""
        ...

    def tables(self, rows: Sequence[Row], answers: Sequence[Answer]) -> Sequence[Table]:
        """What the report shows of this task beyond scores."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A baseline's answers to some rows alone: those at `places`."""

    places: Sequence[int]
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores (fractions) with 95 % intervals, beside baselines on the same rows.

    `groups` is how many units were resampled: groups of rows where rows share one, else rows. `differences`
    are tuned minus baseline, paired on the same draws: [mean, low, high]. `tests` are p-values of the rows' quality
    against each baseline, corrected for their number. `asked`: baselines that answered fewer rows -> how many; their
    scores are of those rows, and so are the differences, tuned scores on the same rows minus theirs.
    """

    task: str
    rows: int
    groups: int
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baseline_intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    tests: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The shape of `luthier evaluate --json` and of scores.json: plain dicts, lists and floats.

        An interval that cannot be told (a loss of one unit) is left out.
        """
        return {
            "task": self.task,
            "rows": self.rows,
            "groups": self.groups,
            "scores": dict(self.scores),
            "intervals": _told(self.intervals),
            "baselines": {name: dict(scores) for name, scores in self.baselines.items()},
            "baseline_intervals": {name: _told(by_key) for name, by_key in self.baseline_intervals.items()},
            "differences": _lists(self.differences),
            "tests": dict(self.tests),
            "asked": dict(self.asked),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """The evaluation that `as_json` wrote."""
        return cls(
            task=data["task"],
            rows=data["rows"],
            groups=data.get("groups", data["rows"]),
            scores=dict(data["scores"]),
            intervals={key: (pair[0], pair[1]) for key, pair in data["intervals"].items()},
            baselines={name: dict(scores) for name, scores in data["baselines"].items()},
            baseline_intervals={
                name: {key: (pair[0], pair[1]) for key, pair in by_key.items()}
                for name, by_key in data.get("baseline_intervals", {}).items()
            },
            differences={
                name: {key: (three[0], three[1], three[2]) for key, three in by_key.items()}
                for name, by_key in data.get("differences", {}).items()
            },
            tests=dict(data.get("tests", {})),
            asked=dict(data.get("asked", {})),
        )

    def tuned_beside(self, name: str, key: str) -> float:
        """The tuned model's score on the rows that this baseline answered."""
        if name not in self.asked:
            return self.scores[key]
        return self.baselines[name][key] + self.differences[name][key][0]


def evaluate(
    task: ScoredTask,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    baselines: Mapping[str, Sequence[Answer]],
    group_by: str | Sequence[Hashable] | None = None,
    seed: int = 0,
    parts: Mapping[str, Part] | None = None,
) -> Evaluation:
    """Score `answers` on `rows`, with intervals and paired differences to `baselines` (name -> answers).

    `group_by` names a field whose equal values make rows one unit, or is the unit of each row. `parts` are baselines
    that answered some rows only: on these they are scored, and paired. A score that is not defined on these rows
    (NaN) is left out. Raises LuthierError where there is no row or the numbers of rows and answers differ.
    """
    groups = unit_keys(rows, group_by)
    found, chance = _held_against(task, rows, answers, baselines, groups, seed)
    for name, part in (parts or {}).items():
        own = None if groups is None else [groups[i] for i in part.places]
        theirs = ([rows[i] for i in part.places], [answers[i] for i in part.places], {name: part.answers})
        beside, own_chance = _held_against(task, *theirs, own, seed)
        chance |= own_chance
        found = replace(
            found,
            baselines={**found.baselines, **beside.baselines},
            baseline_intervals={**found.baseline_intervals, **beside.baseline_intervals},
            differences={**found.differences, **beside.differences},
            asked={**found.asked, name: len(part.places)} if len(part.places) < len(rows) else found.asked,
        )
    return replace(found, tests=holm(chance))


def _held_against(
    task: ScoredTask,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    baselines: Mapping[str, Sequence[Answer]],
    groups: Sequence[Hashable] | None,
    seed: int,
) -> tuple[Evaluation, dict[str, float]]:
    """(scores beside baselines that answered the same rows, the p-value against each, not yet corrected)."""
    models = {TUNED: answers, **baselines}
    for name, given in models.items():
        if len(given) != len(rows):
            raise LuthierError(f"{len(given)} {name} answers for {len(rows)} rows", where="evaluate")
    if not rows:
        raise LuthierError("there is no row to score", where="evaluate", fix="give a test split that holds rows")
    counts = {name: sum_by_group(_counts(task, rows, given), groups) for name, given in models.items()}
    points = {name: _points(task, table) for name, table in counts.items()}
    draws = resample(counts, task.scores, seed)
    alone = {name: _alone(task, table) for name, table in counts.items()}
    intervals = {
        name: {key: _interval(key, point, draws[name][key], alone[name][key]) for key, point in points[name].items()}
        for name in models
    }
    quality = {name: np.asarray(task.quality(rows, given), dtype=np.float64) for name, given in models.items()}
    found = Evaluation(
        task=task.name,
        rows=len(rows),
        groups=len(counts[TUNED]),
        scores=points[TUNED],
        intervals=intervals[TUNED],
        baselines={name: points[name] for name in baselines},
        baseline_intervals={name: intervals[name] for name in baselines},
        differences={name: _differences(name, points, draws, alone) for name in baselines},
    )
    return found, {name: paired_p(quality[TUNED], quality[name], groups, seed) for name in baselines}


def unit_keys(rows: Sequence[Row], group_by: str | Sequence[Hashable] | None) -> list[Hashable] | None:
    """The unit of each row (a row without a value is its own), or None where every row stands alone."""
    if group_by is None:
        return None
    if not isinstance(group_by, str):
        return list(group_by)
    return [number if row.get(group_by) is None else str(row[group_by]) for number, row in enumerate(rows)]


def _counts(task: ScoredTask, rows: Sequence[Row], answers: Sequence[Answer]) -> Array:
    return np.asarray(task.counts(rows, answers), dtype=np.float64)


def _points(task: ScoredTask, counts: Array) -> dict[str, float]:
    scores = {key: float(value) for key, value in task.scores(counts.sum(axis=0)).items()}
    return {key: value for key, value in scores.items() if not np.isnan(value)}


def _alone(task: ScoredTask, counts: Array) -> dict[str, Array]:
    """Each unit's own scores, [units] a key; NaN where a unit says nothing of that score, but others do.

    They tell how many units a score rests on (F1 of unanswerable rows: the units that hold one) and on how
    many two models differ.
    """
    step = max(1, CHUNK // max(1, counts.shape[1]))
    parts = [task.scores(counts[start : start + step]) for start in range(0, len(counts), step)]
    alone = {key: np.concatenate([np.asarray(part[key], dtype=np.float64) for part in parts]) for key in parts[0]}
    # A score that only several units have (a correlation) rests on all: what a unit adds to the sums stands for it.
    own = counts @ np.sqrt(np.arange(2.0, counts.shape[1] + 2))
    return {key: own if np.isnan(values).all() else values for key, values in alone.items()}


def _interval(key: str, point: float, draws: Array, alone: Array) -> Interval:
    kind = measure(key)
    return score_interval(point, draws, int((~np.isnan(alone)).sum()), kind.bottom, kind.top)


def _differences(
    baseline: str,
    points: Mapping[str, Mapping[str, float]],
    draws: Mapping[str, Mapping[str, Array]],
    alone: Mapping[str, Mapping[str, Array]],
) -> dict[str, Difference]:
    """Tuned minus `baseline` for every score both have."""
    differences = {}
    for key in points[TUNED].keys() & points[baseline].keys():
        ours, theirs = alone[TUNED][key], alone[baseline][key]
        said = ~(np.isnan(ours) | np.isnan(theirs))
        differences[key] = difference_interval(
            points[TUNED][key] - points[baseline][key],
            draws[TUNED][key] - draws[baseline][key],
            units=int(said.sum()),
            different=int((ours[said] != theirs[said]).sum()),
        )
    return {key: differences[key] for key in points[TUNED] if key in differences}


def _told(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {key: list(pair) for key, pair in intervals.items() if not np.isnan(pair).any()}


def _lists(by_name: Mapping[str, Mapping[str, tuple[float, ...]]]) -> dict[str, dict[str, list[float]]]:
    return {name: {key: list(values) for key, values in by_key.items()} for name, by_key in by_name.items()}
