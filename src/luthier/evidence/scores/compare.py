"""Several runs side by side: score, interval, parameters, time, memory, and paired differences to the first.

Differences are of the mean quality of the rows (1 or 0 for labels, token F1 for spans), the same rows in both
runs, so they are told only where the test rows are the same: the same ids with the same content.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import Array, Difference, Interval, difference_interval, resample, sum_by_group
from .score import Evaluation


@dataclass(frozen=True, slots=True)
class Contender:
    """One run to compare.

    `quality`: row id -> how good its answer is, 0..1. `hashes`: row id -> hash of the row's content, inputs
    and target. `groups`: row id -> the group it shares with other rows (absent: it stands alone).
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
    """All runs on their deciding score, in the order given."""

    primary: str
    runs: tuple[Compared, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "primary": self.primary,
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
    lines = []
    for place, run in enumerate(runs):
        why_not = _why_not(first, run) if place else ""
        difference = _difference(first, run, seed) if place and not why_not else None
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
    return Comparison(first.primary, tuple(lines))


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


def _difference(first: Contender, run: Contender, seed: int) -> Difference:
    """Mean quality of `run` minus that of `first`, paired over rows, resampled by group where there are
    groups.
    """
    ids = sorted(first.quality)
    groups = None if first.groups is None else [first.groups.get(id, ("alone", id)) for id in ids]
    counts = {
        who: sum_by_group(np.array([[1.0, contender.quality[id]] for id in ids]), groups)
        for who, contender in (("first", first), ("run", run))
    }
    draws = resample(counts, _mean_quality, seed)
    points = {who: float(_mean_quality(table.sum(axis=0))["quality"]) for who, table in counts.items()}
    return difference_interval(
        points["run"] - points["first"],
        draws["run"]["quality"] - draws["first"]["quality"],
        units=len(counts["run"]),
        different=int((counts["run"] != counts["first"]).any(axis=1).sum()),
    )


def _mean_quality(sums: Array) -> dict[str, Array]:
    return {"quality": sums[..., 1] / sums[..., 0]}
