"""Is the data of a run sound, enough and varied? What `check` says of it, and every report again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from luthier.data import marks_of, units
from luthier.errors import DataError
from luthier.evidence.options import EvidenceOptions
from luthier.evidence.soundness import doubtful, giveaways, learning_curve, overlaps, read_benchmark, variety
from luthier.records import Finding, Row
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .attempt import attempt
from .prepare import Prepared, group_field
from .recipe import Recipe

MOST = 20_000  # rows that are looked at, evenly chosen
ROWS_AND_LABELS = 100_000  # rows times labels: of many labels fewer rows are
FEWEST = 2_000  # but never fewer than these


def look_at_data(
    prepared: Prepared,
    task: Task,
    recipe: Recipe,
    base: Path,
    emit: Callable[[Event], None],
) -> dict[str, Any]:
    """Add what is found to `prepared.findings`, looks that failed among it; the figures, as data.json keeps them."""
    options, splits = recipe.evidence, prepared.splits
    rows = _some([row for part in splits.values() for row in part if "made_by" not in row.fields])
    if not rows:
        return {}
    rows = _fewer(rows, task)
    whose = _units(rows, task, recipe)
    say = lambda what, done: emit(Phase(what, done, len(rows)))
    found: list[Finding] = []
    figures: dict[str, Any] = {"rows": len(rows)}
    say("looking for words that tell a label", 0)
    found += attempt("words that tell a label", lambda: giveaways(task.form, rows), [], found)
    if options.label_errors:
        doubts = attempt("label errors", lambda: doubtful(task.form, rows, whose, say), None, found)
        if doubts is not None:
            figures["label_errors"] = doubts.as_json()
            found.append(doubts.finding())
    if options.learning_curve:  # a choice would be made by it, so no test row is in it
        known = {row.id for row in splits["test"]}
        some = [i for i, row in enumerate(rows) if row.id not in known]
        parts = [rows[i] for i in some], [whose[i] for i in some]
        scale = task.measuring(rows)  # `check` looks at rows of which the task has learned nothing
        curve = attempt("the learning curve", lambda: learning_curve(scale, *parts, say, recipe.seed), None, found)
        if curve is not None:
            figures["learning_curve"] = curve.as_json()
            found.append(curve.finding())
    if options.variety:
        emit(Phase("looking at topics"))
        varied = attempt("variety", lambda: variety(task.form, rows), None, found)
        if varied is not None:
            figures["variety"] = varied.as_json()
            found += varied.findings()
    for name in options.benchmarks:
        emit(Phase(f"comparing with {Path(name).name}"))
        found.append(overlaps(task.form, rows, read_benchmark(_file(name, base)), Path(name).name))
    found += left_out(options)
    prepared.findings += found
    return figures


def left_out(options: EvidenceOptions) -> list[Finding]:
    """A note that names what the recipe switched off."""
    names = {"label_errors": "label errors", "learning_curve": "the learning curve", "variety": "variety"}
    off = [words for key, words in names.items() if not getattr(options, key)]
    off += ["robustness"] * (not options.robustness) + ["swapped groups"] * (not options.swaps)
    off += ["kinds of test rows"] * (not options.slices)
    off += ["general language"] * (not options.general)
    if not off:
        return []
    said = f"Not looked at, because the recipe says so: {', '.join(off)}."
    return [Finding("not-looked-at", "note", said, remedy="Take the keys out of `evidence` to look at them.")]


def require_benchmarks(options: EvidenceOptions, base: Path) -> None:
    """DataError where a file that the recipe names cannot be read: better told before training than after it."""
    for name in options.benchmarks:
        read_benchmark(_file(name, base))


def _file(name: str, base: Path) -> Path:
    path = base / name
    if not path.is_file():
        raise DataError("there is no such file", where=f"evidence.benchmarks {name}", fix="name a file of texts")
    return path


def _some(rows: list[Row], most: int = MOST) -> list[Row]:
    """At most so many rows, evenly chosen."""
    if len(rows) <= most:
        return rows
    return [rows[i * len(rows) // most] for i in range(most)]


def _fewer(rows: list[Row], task: Task) -> list[Row]:
    """Fewer rows of many labels, since a cheap model is fitted for each."""
    kind, target = task.form[task.form.target].kind, task.form.target
    if kind not in ("label", "labels"):
        return rows
    labels = {mark for row in rows for mark in marks_of(row.get(target), kind)}
    return _some(rows, max(FEWEST, ROWS_AND_LABELS // max(1, len(labels))))


def _units(rows: Sequence[Row], task: Task, recipe: Recipe) -> list[Hashable]:
    """The unit of each row: copies, near copies and rows of one group are asked about together."""
    shared = group_field(recipe.data, task, rows)
    found = units(rows, task.form, shared)
    return list(found) if found is not None else list(range(len(rows)))
