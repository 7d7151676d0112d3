"""Is it better than the run before it? Both runs' answers to the same test rows, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...records import Finding
from .intervals import difference_interval, resample, sum_by_group
from .measures import as_text, difference_text
from .paired_tests import paired_p

Line = Mapping[str, Any]  # of predictions/test.jsonl


def same_rows(ours: Sequence[Line], theirs: Sequence[Line]) -> bool:
    """Whether two runs answered the same rows, by id, content and expected answer."""
    told = lambda lines: {(line["id"], line.get("content"), str(line.get("expected"))) for line in lines}
    return bool(ours) and told(ours) == told(theirs)


def previous_finding(name: str, ours: Sequence[Line], theirs: Sequence[Line], seed: int = 0) -> Finding:
    """A note where this run is better or level, a warning where it is worse, on the mean quality of the rows."""
    other = {line["id"]: float(line["quality"]) for line in theirs}
    quality = np.array([float(line["quality"]) for line in ours])
    before = np.array([other[line["id"]] for line in ours])
    units = [line.get("group") or ("row", line["id"]) for line in ours]
    one = np.ones(len(ours))
    counts = {
        "new": sum_by_group(np.stack([one, quality], axis=1), units),
        "old": sum_by_group(np.stack([one, before], axis=1), units),
    }
    draws = resample(counts, lambda sums: {"quality": sums[..., 1] / sums[..., 0]}, seed)
    mean, low, high = difference_interval(
        float(quality.mean() - before.mean()),
        draws["new"]["quality"] - draws["old"]["quality"],
        units=len(counts["new"]),
        different=int((counts["new"] != counts["old"]).any(axis=1).sum()),
    )
    told = (
        f"{as_text('quality', float(quality.mean()))} against {as_text('quality', float(before.mean()))}, "
        f"{difference_text('quality', (mean, low, high))}"
    )
    numbers = {
        "run": name,
        "quality": float(quality.mean()),
        "before": float(before.mean()),
        "difference": [mean, low, high],
        "p": paired_p(quality, before, units, seed),
    }
    on = f"on the same {len(ours):,} test rows, by how good each answer is: {told}"
    if low > 0:
        return Finding("beats-previous", "note", f"It is better than the run before it, {name}, {on}.", numbers)
    if high < 0:
        remedy = f"Use {name}, or find out what changed: luthier compare."
        said = f"It is worse than the run before it, {name}, {on}."
        return Finding("worse-than-previous", "warning", said, numbers, remedy=remedy)
    return Finding(
        "level-with-previous", "note", f"It is not told apart from the run before it, {name}, {on}.", numbers
    )
