"""What made rows brought: the same run with and without them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ...records import Answer, Finding, Row
from ..scores.measures import as_text, difference_text, measure
from ..scores.score import ScoredTask, evaluate


def augmentation_finding(
    task: ScoredTask,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    without: Sequence[Answer],
    group_by: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Finding:
    """`augmentation` (a note; a warning where made rows surely did harm): both runs on the same test rows, paired."""
    found = evaluate(task, rows, answers, {"without": without}, group_by, seed)
    key = task.primary
    if key not in found.differences.get("without", {}):
        return Finding("augmentation", "note", f"What the made rows brought cannot be told: {key} is not defined.")
    kind, difference = measure(key), found.differences["without"][key]
    _, low, high = difference
    better, worse = (low > 0, high < 0) if kind.higher_is_better else (high < 0, low > 0)
    said = (
        "The made rows helped"
        if better
        else "The made rows did harm"
        if worse
        else "The made rows changed nothing for sure"
    )
    sentence = (
        f"{said}: {kind.name} is {as_text(key, found.scores[key])} with them and "
        f"{as_text(key, found.baselines['without'][key])} without, a difference of {difference_text(key, difference)}."
    )
    numbers = {
        "with": found.scores[key],
        "without": found.baselines["without"][key],
        "difference": list(difference),
    }
    return Finding(
        "augmentation",
        "warning" if worse else "note",
        sentence,
        numbers,
        remedy="Leave data.augment out, or make fewer rows." if worse else "",
    )
