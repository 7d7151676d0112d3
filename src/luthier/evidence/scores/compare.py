"""Several runs side by side: score, interval, parameters, time, memory, and paired differences to the first.

Differences are of the score that decides, paired over the rows, so they are told only where the test rows are the
same: the same ids with the same content. Where a run's score cannot be made again from its answers, all differences are
of the mean quality of an answer (1 or 0 for labels, token F1 for spans), and called so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import Array, Difference, Interval, difference_interval, resample, sum_by_group
from .measures import measure
from .score import Evaluation

QUALITY = "quality"  # what a difference is of where it is not the deciding score


@dataclass(frozen=True, slots=True)
class Contender:
    """One run to compare.

    `quality`: row id -> how good its answer is, 0..1. `hashes`: row id -> hash of the row's content, inputs
    and target. `groups`: row id -> the group it shares with other rows (absent: it stands alone). `counts`: row id ->
    numbers whose sums [... x k] `scores` turns into scores; None where they are not known.
    """

    name: str
    task: str
    primary: str
    evaluation: Evaluation
    quality: Mapping[str, float]
    hashes: Mapping[str, str]
    groups: Mapping[str, Hashable] | None = None
    verdict: str = ""
    trained_parameters: int = 0
    seconds: float = 0.0
    peak_memory: int = 0
    counts: Mapping[str, Array] | None = None
    scores: Callable[[Array], Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One run's line. `difference` to the first run [mean, low, high]; None for the first or where not
    comparable.
    """

    name: str
    primary: str
    score: float | None
    interval: Interval | None
    verdict: str
    trained_parameters: int
    seconds: float
    peak_memory: int
    difference: Difference | None = None
    not_comparable: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs on their deciding score, in the order given. `difference_of` is the score that differences are of:
    `primary`, or "quality".
    """

    primary: str
    runs: tuple[Compared, ...]
    difference_of: str = QUALITY

    def as_json(self) -> dict[str, Any]:
        return {
            "primary": self.primary,
            "difference_of": self.difference_of,
            "runs": [
                {
                    "name": run.name,
                    "primary": run.primary,
                    "score": run.score,
                    "interval": list(run.interval) if run.interval else None,
                    "difference": list(run.difference) if run.difference else None,
                    "not_comparable": run.not_comparable,
                    "verdict": run.verdict,
                    "trained_parameters": run.trained_parameters,
                    "seconds": run.seconds,
                    "peak_memory": run.peak_memory,
                }
                for run in self.runs
            ],
        }


def compare(runs: Sequence[Contender], seed: int = 0) -> Comparison:
    """Hold each run against the first. Raises ValueError for no run at all."""
    if not runs:
        raise ValueError("compare needs at least one run")
    first = runs[0]
    reasons = [_why_not(first, run) if place else "" for place, run in enumerate(runs)]
    held = [run for run, why_not in zip(runs, reasons) if not why_not]
    key = first.primary if all(run.counts is not None and run.scores is not None for run in held) else QUALITY
    lines = []
    for place, (run, why_not) in enumerate(zip(runs, reasons)):
        difference = _difference(first, run, key, seed) if place and not why_not else None
        lines.append(
            Compared(
                name=run.name,
                primary=run.primary,
                score=run.evaluation.scores.get(run.primary),
                interval=run.evaluation.intervals.get(run.primary),
                verdict=run.verdict,
                trained_parameters=run.trained_parameters,
                seconds=run.seconds,
                peak_memory=run.peak_memory,
                difference=difference,
                not_comparable=why_not,
            )
        )
    return Comparison(first.primary, tuple(lines), key)


def _why_not(first: Contender, run: Contender) -> str:
    """Why two runs cannot be held against each other, in words; "" where they can."""
    if run.task != first.task:
        return f"not comparable: another task ({run.task})"
    if not run.quality:
        return "not comparable: it has no scored test rows"
    if run.quality.keys() != first.quality.keys():
        shared = len(run.quality.keys() & first.quality.keys())
        return f"not comparable: other test rows ({shared:,} of {len(first.quality):,} shared)"
    changed = sum(1 for id in first.quality if run.hashes.get(id) != first.hashes.get(id))
    return f"not comparable: {changed:,} test rows have other content" if changed else ""


def _difference(first: Contender, run: Contender, key: str, seed: int) -> Difference:
    """The score `key` of `run` minus that of `first`, paired over rows, resampled by group where there are groups."""
    ids = sorted(first.quality)
    groups = None if first.groups is None else [first.groups.get(id, ("alone", id)) for id in ids]
    ours, mine = _summed(run, ids, groups, key, seed)
    theirs, other = _summed(first, ids, groups, key, seed)
    qualities = [sum_by_group(np.array([[1.0, one.quality[id]] for id in ids]), groups) for one in (run, first)]
    return difference_interval(
        ours - theirs,
        mine - other,  # the same seed and as many units: the same units are drawn for both
        units=len(qualities[0]),
        different=int((qualities[0] != qualities[1]).any(axis=1).sum()),
    )


def _summed(
    run: Contender, ids: Sequence[str], groups: Sequence[Hashable] | None, key: str, seed: int
) -> tuple[float, Array]:
    """(the run's score `key`, the same for each bootstrap draw)."""
    scores = run.scores or _mean_quality
    if key == QUALITY or run.counts is None:
        rows, scores = np.array([[1.0, run.quality[id]] for id in ids]), _mean_quality
    else:
        rows = np.array([run.counts[id] for id in ids], dtype=np.float64)
    counts = sum_by_group(rows, groups)
    return float(scores(counts.sum(axis=0))[key]), resample({"run": counts}, scores, seed)["run"][key]


def difference_words(key: str) -> str:
    """What a difference of `key` is of, with its unit."""
    if key == QUALITY:
        return "mean quality of an answer (0 to 100 points)"
    kind = measure(key)
    unit = " in points" if kind.top == 1.0 else ""
    return f"{kind.name}{unit}{'' if kind.higher_is_better else ' (less is better)'}"


def _mean_quality(sums: Array) -> Mapping[str, Any]:
    return {QUALITY: sums[..., 1] / sums[..., 0]}
