"""Is the data of a run sound, enough and varied? What `check` says of it, and every report again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from luthier.data import marks_of, units_and_copies
from luthier.errors import DataError
from luthier.evidence.options import EvidenceOptions
from luthier.evidence.soundness import (
    Curve,
    Doubts,
    doubtful,
    giveaways,
    learning_curve,
    near_copies,
    overlaps,
    read_benchmark,
    variety,
)
from luthier.records import Finding, Row
from luthier.tasks import Task
from luthier.training.events import Event, Phase

from .attempt import attempt
from .balance import look_at_balance, look_at_groups, require_groups
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
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Add what is found to `prepared.findings`, looks that failed among it; the figures, as data.json keeps them.

    `seconds` are those of the run's own training, by which the cost of training again is told.
    """
    options, splits = recipe.evidence, prepared.splits
    own = {name: [row for row in part if "made_by" not in row.fields] for name, part in splits.items()}
    every = rows_looked_at(prepared)
    if not every:
        return {}
    rows = every if options.deep else _fewer(every, task)
    whose, copies = _units(rows, task, recipe)
    say = lambda what, done: emit(Phase(what, done, len(rows)))
    found: list[Finding] = []
    figures: dict[str, Any] = {"rows": len(rows)}
    say("looking for words that tell a label", 0)
    found += attempt("words that tell a label", lambda: giveaways(task.form, rows), [], found)
    doubts, curve = _doubts_and_curve(prepared, task, recipe, base, rows, whose, emit, found, seconds)
    if doubts is not None:
        figures["label_errors"] = doubts.as_json()
        found.append(doubts.finding())
    if curve is not None:
        figures["learning_curve"] = curve.as_json()
        found.append(curve.finding())
    if options.variety:
        emit(Phase("looking at topics"))
        varied = attempt("variety", lambda: variety(task.form, rows), None, found)
        if varied is not None:
            figures["variety"] = varied.as_json()
            found += varied.findings()
        split_of = {row.id: name for name, part in own.items() for row in part}
        parts = (task.form, rows, copies, [split_of[row.id] for row in rows])
        found += attempt("near copies", lambda: near_copies(*parts), [], found)
        spread = attempt("balance", lambda: look_at_balance(task.form, own), None, found)
        if spread is not None:
            figures["balance"] = spread.as_json()
            found += spread.findings()
    if options.groups:
        emit(Phase("looking at groups"))
        together = whose if len(rows) == len(every) else _units(every, task, recipe)[0]
        given = (options.groups, every, task.form, together, recipe.seed, "evidence.groups")
        groups = attempt("groups", lambda: look_at_groups(*given), None, found)
        if groups is not None:
            figures["groups"] = groups[0]
            found += groups[1]
    for name in options.benchmarks:
        emit(Phase(f"comparing with {Path(name).name}"))
        found.append(overlaps(task.form, rows, read_benchmark(_file(name, base)), Path(name).name))
    found += left_out(options)
    prepared.findings += found
    return figures


def _doubts_and_curve(
    prepared: Prepared,
    task: Task,
    recipe: Recipe,
    base: Path,
    rows: list[Row],
    whose: list[int],
    emit: Callable[[Event], None],
    found: list[Finding],
    seconds: float,
) -> tuple[Doubts | None, Curve | None]:
    """By the recipe's own model where that is asked for and can be done, else by a cheap one; none switched off."""
    options, splits = recipe.evidence, prepared.splits
    known = {row.id for row in splits["test"]}
    say = lambda what, done: emit(Phase(what, done, len(rows)))
    doubts: Doubts | None = None
    curve: Curve | None = None
    if options.label_errors:
        doubts = attempt("label errors", lambda: doubtful(task.form, rows, whose, say), doubts, found)
    some = [i for i, row in enumerate(rows) if row.id not in known]
    if options.deep and (options.label_errors or options.learning_curve):
        from .trials import look_again, unfit

        why, remedy = unfit(recipe, task, len(some), len({whose[i] for i in some}))
        if not why:
            parts = (recipe, base, task, rows, whose, splits, emit, seconds, doubts)
            again = attempt("the model trained again", lambda: look_again(*parts), None, found)
            if again is not None:
                return again
        else:
            said = f"Nothing was trained again: {why}. What a cheap model can tell stands in its place."
            found.append(Finding("not-trained-again", "note", said, remedy=remedy))
    if options.learning_curve:  # a choice would be made by it, so no test row is in it
        lists = [rows[i] for i in some], [whose[i] for i in some]
        scale = task.measuring(rows)  # `check` looks at rows of which the task has learned nothing
        curve = attempt("the learning curve", lambda: learning_curve(scale, *lists, say, recipe.seed), curve, found)
    return doubts, curve


def left_out(options: EvidenceOptions) -> list[Finding]:
    """A note that names what the recipe switched off."""
    names = {"label_errors": "label errors", "learning_curve": "the learning curve", "variety": "variety"}
    off = [words for key, words in names.items() if not getattr(options, key)]
    off += ["robustness"] * (not options.robustness) + ["swapped groups"] * (not options.swaps)
    off += ["kinds of test rows"] * (not options.slices)
    off += ["general language"] * (not options.general)
    off += ["the untuned model with examples"] * (not options.few_shot)
    if not off:
        return []
    said = f"Not looked at, because the recipe says so: {', '.join(off)}."
    return [Finding("not-looked-at", "note", said, remedy="Take the keys out of `evidence` to look at them.")]


def require(options: EvidenceOptions, base: Path, prepared: Prepared, task: Task) -> None:
    """DataError where a file that the recipe names cannot be read, InputError where a column of groups cannot be one:
    better told before training than after it.
    """
    for name in options.benchmarks:
        read_benchmark(_file(name, base))
    require_groups(options.groups, rows_looked_at(prepared), task.form, "evidence.groups")


def rows_looked_at(prepared: Prepared) -> list[Row]:
    """At most MOST rows of all splits, without those that were made."""
    return evenly([row for part in prepared.splits.values() for row in part if "made_by" not in row.fields])


def _file(name: str, base: Path) -> Path:
    path = base / name
    if not path.is_file():
        raise DataError("there is no such file", where=f"evidence.benchmarks {name}", fix="name a file of texts")
    return path


def evenly(rows: list[Row], most: int = MOST) -> list[Row]:
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
    return evenly(rows, max(FEWEST, ROWS_AND_LABELS // max(1, len(labels))))


def _units(rows: Sequence[Row], task: Task, recipe: Recipe) -> tuple[list[int], list[tuple[int, int, float]]]:
    """The unit of each row: copies, near copies and rows of one group are asked about together. And the copies."""
    shared = group_field(recipe.data, task, rows)
    found, copies = units_and_copies(rows, task.form, shared)
    return found if found is not None else list(range(len(rows))), copies
