"""Test rows asked again, written a little differently."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luthier.evidence.robustness import KINDS, Robustness, measure_robustness
from luthier.records import Answer, Row
from luthier.tasks import Task
from luthier.training.events import Event, Phase

WRITTEN = 40  # rows of a task whose answers are written word by word, which takes long
WHAT = "answering rows written differently"


def look_at_robustness(
    task: Task,
    rows: Sequence[Row],
    answers: Sequence[Answer],
    predict: Callable[[Sequence[Row]], Sequence[Answer]],
    units: Sequence[int] | None,
    most: int,
    seed: int,
    emit: Callable[[Event], None],
) -> Robustness | None:
    """On at most `most` rows, evenly chosen; None where the task is not asked in texts, or has too few rows."""
    count = min(len(rows), min(most, WRITTEN) if task.speaks else most)
    if not count:
        return None
    chosen = [i * len(rows) // count for i in range(count)]
    done = 0

    def ask(some: Sequence[Row]) -> Sequence[Answer]:
        nonlocal done
        emit(Phase(WHAT, done, len(KINDS) * count))
        told = predict(some)
        done += count
        return task.settle(some, told)

    own = None if units is None else [units[i] for i in chosen]
    found = measure_robustness(task, [rows[i] for i in chosen], [answers[i] for i in chosen], ask, own, seed)
    return found if found.ways else None
