"""`new` and `check`: from a data file to a recipe, and what is wrong with either."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.errors import DataError, InputError, NoColumn, did_you_mean

from .arguments import Column, Json, Set, columns_asked, columns_of, names_in, naming, task_named, writing

if TYPE_CHECKING:
    from luthier.data import Loaded
    from luthier.records import Form
    from luthier.tasks import Task


def new(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="classification, token-classification, question-answering, generation, seq2seq, embedding or "
            "pretraining.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", help="Your rows; its columns are detected and filled in."),
    ] = None,
    column: Column = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The recipe to write.", show_default="TASK.yaml"),
    ] = None,
) -> int:
    """Write a commented starter recipe."""
    from luthier.data.reading.raw import shown
    from luthier.files import write_text
    from luthier.run import starter
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import say
    from luthier.training.events import Phase

    kind = task_named(task)
    settings: dict[str, Any] = {}
    target = out or Path(f"{task}.yaml")
    if target.is_dir():
        target /= f"{task}.yaml"
    if target.exists():
        raise InputError("it is already there", where=str(target), fix="name another file with --out")
    asked, columns = columns_of(column), {}
    rows = None
    place = "rows.csv"
    if asked and data is None:
        raise InputError("it is a column of a file, and none is named", where="--column", fix="add --data FILE")
    if data is not None:
        with Progress() as listen, columns_asked(f"luthier new {task} --data {shlex.quote(data)}", asked):
            listen(Phase("reading rows"))
            settings, loaded = _read_as(kind, data, asked)
        columns = {field: name for field, name in loaded.columns.items() if field != name}
        rows = len(loaded.rows)
        place = os.path.relpath(data, target.parent) if Path(data).exists() and not Path(data).is_absolute() else data
        if settings:
            say(f"read as rows for {', '.join(f'task.{key}: {json.dumps(value)}' for key, value in settings.items())}")
        say("columns: " + ", ".join(f'{field} is "{shown(name, 60)}"' for field, name in loaded.columns.items()))
        if loaded.errors:
            say(f"{data} has errors: {len(loaded.errors):,}; the check below lists them")
    with writing(target, "--out"):
        write_text(target, starter(task, place, columns, rows, settings))
    print(f"wrote {target}")
    print(f"next: luthier check {target}")
    return 0


def _read_as(kind: type[Task], data: str, columns: Mapping[str, str]) -> tuple[dict[str, Any], Loaded]:
    """The task's settings under which these rows can be read, and the rows: the plain task where that reads them all.

    `columns` are fields whose column is known, which only some settings have. DataError, of the plainest of these,
    where no settings read any rows, or where the plain task only lacks a column whose name is misspelt.
    """
    from luthier.data import load

    best: tuple[dict[str, Any], Loaded] | None = None
    problem: DataError | None = None
    for settings, form in _forms_with(kind, columns):
        try:
            loaded = load(data, form, columns=columns)
        except DataError as error:
            problem = problem or error
            continue
        if isinstance(problem, NoColumn) and problem.missing.get(kind.form.target):
            raise _misspelt(problem, kind, data, form.target, loaded.columns.get(form.target, ""))
        if not loaded.errors and kind.suits(settings, loaded.rows):
            return dict(settings), loaded
        if best is None or len(loaded.errors) < len(best[1].errors):
            best = dict(settings), loaded
    if best is None:
        assert problem is not None
        raise problem
    return best


def _forms_with(kind: type[Task], columns: Mapping[str, str]) -> list[tuple[Mapping[str, Any], Form]]:
    """The task's settings whose rows have these fields, plain ones first. InputError where none has."""
    from luthier.data import column_fields

    every = [(way, kind(kind.Options(**way)).form if way else kind.form) for way in ({}, *kind.variants)]
    fitting = [(way, form) for way, form in every if columns.keys() <= column_fields(form)]
    if not fitting:
        known = sorted({field for _, form in every for field in column_fields(form)})
        odd = next((field for field in columns if field not in known), "")
        found = f'there is no field "{odd}"' if odd else f"no row has all of {', '.join(columns)}"
        raise InputError(found, where="--column", fix=did_you_mean(odd, known))
    return fitting


def _misspelt(problem: NoColumn, kind: type[Task], data: str, target: str, column: str) -> InputError:
    """A column has almost the name of the plain task's target, while another would do for other settings."""
    command = f"luthier new {kind.name} --data {shlex.quote(data)}"
    fix = naming(command, problem.missing)
    if column and column not in problem.missing.values():
        fix += f'\nor, where "{column}" is what is to be learned: {command} --column {target}={shlex.quote(column)}'
    return InputError(problem.found, where=problem.where, fix=fix)


def check(
    target: Annotated[str, typer.Argument(metavar="RECIPE|FILE", help="A recipe (.yaml), or a data file with --task.")],
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="What the file's rows are for.")] = None,
    fix_offsets: Annotated[
        bool,
        typer.Option("--fix-offsets", help="Write a copy of the file with wrong answer starts corrected."),
    ] = False,
    fix_tags: Annotated[
        bool,
        typer.Option("--fix-tags", help="Write a copy of the file with impossible tags corrected."),
    ] = False,
    column: Column = None,
    groups: Annotated[
        str | None,
        typer.Option("--groups", metavar="COLUMN,...", help="Columns whose values are groups: label rates of each."),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Judge labels, and whether rows are enough, by the recipe's model, trained again."),
    ] = False,
    set_: Set = None,
    json_: Json = False,
) -> int:
    """Report what is wrong with the data. Exits 1 if there are errors."""
    from luthier import run
    from luthier.terminal.printers import print_data_report
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json

    is_recipe = Path(target).suffix.lower() in (".yaml", ".yml")
    columns = columns_of(column)
    if columns and is_recipe:
        fix = " ".join(f"--set {shlex.quote(f'data.columns.{field}={name}')}" for field, name in columns.items())
        raise InputError("a recipe names its own columns", where=target, fix=f"change them: {fix}")
    if columns and (fix_offsets or fix_tags):
        raise InputError("a repair finds its columns by itself", where="--column", fix="leave --column out")
    if fix_offsets and fix_tags:
        raise InputError("one repair at a time", where=target, fix="leave --fix-offsets or --fix-tags out")
    if fix_offsets or fix_tags:
        kind = "spans" if fix_offsets else "tags"
        return _repair(kind, target, task, is_recipe, set_ or [], json_)
    _refuse_mixed(target, task, is_recipe, deep, set_ or [])
    with Progress() as listen, columns_asked(f"luthier check {shlex.quote(target)} --task {task}", columns):
        if columns and task is not None:
            _forms_with(task_named(task), columns)
        asked: dict[str, Any] = {"columns": columns, "groups": names_in(groups), "deep": deep}
        report = run.check(target, task=task, overrides=set_ or [], listen=listen, **asked)
    if json_:
        print_json(report)
    else:
        print_data_report(report)
    return 1 if any(fault["severity"] == "error" for fault in report["faults"]) else 0


def _refuse_mixed(target: str, task: str | None, is_recipe: bool, deep: bool, overrides: list[str]) -> None:
    """InputError where what a recipe says is asked of a data file, or the other way round."""
    if task is not None:
        task_named(task)
        if is_recipe:
            raise InputError("a recipe names its own task", where=target, fix="leave --task out")
    elif not is_recipe:
        from luthier.tasks import TASKS

        raise InputError(
            "for a data file, say what its rows are for",
            where=target,
            fix=f"add --task {' or --task '.join(TASKS)}",
        )
    if task is not None and overrides:
        raise InputError(
            "--set changes a recipe, and this is a data file",
            where=target,
            fix=f"make one: luthier new {task} --data {target}",
        )
    if task is not None and deep:
        raise InputError(
            "--deep trains what a recipe names, and this is a data file",
            where=target,
            fix=f"make one: luthier new {task} --data {target}",
        )


def _repair(kind: str, target: str, task: str | None, is_recipe: bool, overrides: list[str], as_json: bool) -> int:
    """Write a corrected copy of a file whose rows have a field of this kind: spans or tags."""
    from luthier.data import fix_offsets, fix_tags
    from luthier.tasks import TASKS
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_error, print_json
    from luthier.training.events import Phase

    path = Path(target)
    if is_recipe:
        from luthier.run.recipe import read

        recipe, base = read(path, overrides)
        if not isinstance(recipe.data.train, str):
            raise InputError("its data.train names several files", where=target, fix="repair one file at a time")
        task, path = recipe.task.name, base / recipe.data.train
    elif task is not None:
        task_named(task)
    else:
        task = next(t.name for t in TASKS.values() if any(f.kind == kind for f in t.form.fields))
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), fix="name the data file to repair")
    with Progress() as listen:
        listen(Phase("correcting rows"))
        fixed, count, left = (fix_offsets if kind == "spans" else fix_tags)(path, TASKS[task].form)
    what = "answer start" if kind == "spans" else "tag"
    if as_json:
        print_json({"file": str(fixed), "fixed": count, "left": [fault.as_json() for fault in left]})
    else:
        print(f"{count:,} {what}{'s' * (count != 1)} corrected in {fixed}")
        print(f"{len(left):,} error{'s' * (len(left) != 1)} left in it")
    if left and not as_json:
        print_error(f"correct the rest by hand: luthier check {fixed} --task {task}")
    return 1 if left else 0
