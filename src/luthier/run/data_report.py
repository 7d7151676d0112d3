"""What is wrong with a recipe, or with rows, before anything is fetched or trained: `luthier check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data import check as check_rows
from luthier.data import load as load_rows
from luthier.data import units
from luthier.errors import LuthierError, ModelError, NotHere
from luthier.models.scratch import NEW
from luthier.records import Fault, Finding
from luthier.tasks import TASKS, Task
from luthier.training.events import Event, Phase

from .balance import look_at_groups, require_groups
from .base_model import task_here
from .earlier import earlier_run, keep_apart
from .prepare import Prepared, prepare
from .recipe import Recipe, read
from .soundness import evenly, look_at_data, rows_looked_at

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Listener = Callable[[Event], None]


def check(
    target: str,
    *,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    groups: Sequence[str] = (),
    deep: bool = False,
    listen: Listener | None = None,
) -> dict[str, Any]:
    """The data report for a recipe, or for a file and a task: `{"format", "columns", "rows", "kept", "faults"}`.

    What a recipe names beside its rows (the model, its template, what rows are made of) is among the faults.
    `columns` (field -> column of the file) says which is which where the names do not. `groups` are columns whose
    values are groups, in place of the recipe's; `deep` trains the recipe's own model again to judge labels and to draw
    the learning curve.
    """
    emit = listen or (lambda event: None)
    if task is not None:
        return _file(target, task, columns or {}, groups, emit)
    recipe, base = read(target, overrides)
    changes = ({"groups": list(groups)} if groups else {}) | ({"deep": True} if deep else {})
    if changes:
        evidence = recipe.evidence.model_copy(update=changes)
        recipe = recipe.model_copy(update={"evidence": evidence})
    kind, tokenizer, faults, findings = _fitted(recipe, base, emit)
    try:
        prepared = prepare(recipe.data, kind, base, tokenizer, emit)
    except ModelError as error:  # a request that is too long for the model whatever the row
        faults.append(_as_fault(error))
        prepared = prepare(recipe.data, kind, base, None, emit)
    prepared.faults = [*faults, *_augment_faults(recipe, kind), *prepared.faults]
    prepared.findings += findings
    earlier = earlier_run(recipe.model, base)
    if earlier is not None and earlier.task == kind.name and not prepared.errors:
        keep_apart(prepared, earlier, kind, recipe.data, emit)
    if not prepared.errors:
        where = "--groups" if groups else "evidence.groups"
        require_groups(recipe.evidence.groups, rows_looked_at(prepared), kind.form, where)
        prepared.facts["soundness"] = look_at_data(prepared, kind, recipe, base, emit)
    return _report(prepared)


def _file(target: str, task: str, columns: Mapping[str, str], groups: Sequence[str], emit: Listener) -> dict[str, Any]:
    """The report for a file whose rows are for `task`."""
    form = TASKS[task].form
    emit(Phase("reading rows"))
    loaded = load_rows(target, form, columns=columns, say=lambda what, done: emit(Phase(what, done)))
    count = len(loaded.rows)
    checked = check_rows(loaded.rows, form, say=lambda what, done: emit(Phase(what, done, count)))
    whole = Prepared(
        {"train": loaded.rows},
        [*loaded.faults, *checked.faults],
        checked.facts,
        loaded.files,
        loaded.format,
        loaded.columns,
        loaded.read,
    )
    if groups and loaded.rows:
        emit(Phase("looking at groups"))
        rows = evenly(loaded.rows)
        together = units(rows, form, form.group_by if any(form.group_by in row.fields for row in rows) else None)
        figures, findings = look_at_groups(groups, rows, form, together, 0, "--groups")
        whole.facts["soundness"] = {"groups": figures}
        whole.findings += findings
    return {**_report(whole), "splits": None}


def _fitted(
    recipe: Recipe, base: Path, emit: Listener
) -> tuple[Task, PreTrainedTokenizerBase | None, list[Fault], list[Finding]]:
    """The task as training will have it and its tokenizer; the plain task and None where that cannot be told."""
    plain = TASKS[recipe.task.name](recipe.task)
    if recipe.model == NEW:
        return plain, None, [], []
    try:
        return *task_here(recipe, base, emit), [], []
    except NotHere as missing:
        said = f"Tokens were not counted: {recipe.model} is not on this machine."
        return plain, None, [], [Finding("tokens-not-counted", "note", said, remedy=missing.fix)]
    except LuthierError as error:
        return plain, None, [_as_fault(error)], []


def _as_fault(error: LuthierError) -> Fault:
    return Fault("error", "model", error.found, error.where or "model", fix=error.fix)


def _augment_faults(recipe: Recipe, task: Task) -> list[Fault]:
    """What of data.augment cannot be made of this task's rows."""
    from luthier.data.augment import refuse_unfit

    faults = []
    for options in recipe.data.augment:
        try:
            refuse_unfit(options.name, task.form)
        except LuthierError as error:
            faults.append(Fault("error", "augment", error.found, error.where, fix=error.fix))
    return faults


def _report(prepared: Prepared) -> dict[str, Any]:
    whole = prepared.as_json()
    return {
        "format": prepared.format,
        "columns": prepared.columns,
        "rows": prepared.read,
        "kept": whole["kept"],
        "faults": [fault.as_json() for fault in prepared.faults],
        "facts": prepared.facts,
        "files": prepared.files,
        "splits": None if prepared.refusal is not None else whole["splits"],
        "findings": whole["findings"],
    }
