"""What a model that was tuned further has lost of what it could: the old test rows, before and after."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ...records import Answer, Finding, Row
from ..scores.intervals import Difference
from ..scores.measures import as_text, difference_text, measure
from ..scores.score import ScoredTask, evaluate

NOTICEABLE = 0.01  # a loss smaller than this share of the score's range is not worth a warning


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The deciding score on the earlier run's test rows, before and after; `difference` is after minus before."""

    primary: str
    rows: int
    before: float
    after: float
    difference: Difference


def measure_forgetting(
    task: ScoredTask,
    rows: Sequence[Row],
    before: Sequence[Answer],
    after: Sequence[Answer],
    group_by: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Forgetting | None:
    """Both models on the same old rows, paired; None where the deciding score is not defined there."""
    found = evaluate(task, rows, after, {"earlier": before}, group_by, seed)
    key = task.primary
    if key not in found.scores or key not in found.baselines["earlier"]:
        return None
    return Forgetting(
        key, len(rows), found.baselines["earlier"][key], found.scores[key], found.differences["earlier"][key]
    )


REMEDIES = {
    "none": "Set train.forgetting: replay, or ewc or distill where the old rows are gone.",
    "replay": "Replay more of the old rows (train.forgetting.share), or train for fewer epochs at a lower rate.",
}  # by what is done against forgetting already
MORE = "Raise train.forgetting.strength, or replay old rows where they can be read."


def forgetting_finding(found: Forgetting, earlier: str, done: str = "none") -> Finding:
    """`forgot` (a warning) where the whole interval lies on the worse side, else `remembered` (a note).

    `done`: the run's own means against forgetting.
    """
    kind = measure(found.primary)
    mean, low, high = found.difference
    lost, surely = (-mean, high < 0) if kind.higher_is_better else (mean, low > 0)
    said = (
        f"On the {found.rows:,} test rows of the earlier run {earlier} its {kind.name} is "
        f"{as_text(found.primary, found.after)}; before this tuning it was {as_text(found.primary, found.before)}, "
        f"a difference of {difference_text(found.primary, found.difference)}."
    )
    numbers = {
        "before": found.before,
        "after": found.after,
        "difference": list(found.difference),
        "rows": found.rows,
    }
    if surely and lost >= NOTICEABLE * ((kind.top or 1.0) - (kind.bottom or 0.0)):
        return Finding(
            "forgot",
            "warning",
            f"It has forgotten some of what it could do. {said}",
            numbers,
            remedy=REMEDIES.get(done, MORE),
        )
    return Finding("remembered", "note", f"It still does what it could do. {said}", numbers)
