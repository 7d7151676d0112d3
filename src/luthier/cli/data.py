"""`new` and `check`: from a data file to a recipe, and what is wrong with either."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.errors import DataError, InputError

from .arguments import Json, Set, task_named

if TYPE_CHECKING:
    from luthier.data import Loaded
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
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The recipe to write.", show_default="TASK.yaml"),
    ] = None,
) -> int:
    """Write a commented starter recipe."""
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
    columns: dict[str, str] = {}
    rows = None
    place = "rows.csv"
    if data is not None:
        with Progress() as listen:
            listen(Phase("reading rows"))
            settings, loaded = _read_as(kind, data)
        columns = {field: name for field, name in loaded.columns.items() if field != name}
        rows = len(loaded.rows)
        place = os.path.relpath(data, target.parent) if Path(data).exists() and not Path(data).is_absolute() else data
        if settings:
            say(f"read as rows for {', '.join(f'task.{key}: {json.dumps(value)}' for key, value in settings.items())}")
        if loaded.errors:
            say(f"{data} has errors: {len(loaded.errors):,}; the check below lists them")
    write_text(target, starter(task, place, columns, rows, settings))
    print(f"wrote {target}")
    print(f"next: luthier check {target}")
    return 0


def _read_as(kind: type[Task], data: str) -> tuple[dict[str, Any], Loaded]:
    """The task's settings under which these rows can be read, and the rows: the plain task where that reads them all.

    DataError, of the plain task, where no settings read any.
    """
    from luthier.data import load

    best: tuple[dict[str, Any], Loaded] | None = None
    problem: DataError | None = None
    for settings in ({}, *kind.variants):
        try:
            loaded = load(data, kind(kind.Options(**settings)).form if settings else kind.form)
        except DataError as error:
            problem = problem or error
            continue
        if not loaded.errors and kind.suits(settings, loaded.rows):
            return dict(settings), loaded
        if best is None or len(loaded.errors) < len(best[1].errors):
            best = dict(settings), loaded
    if best is None:
        assert problem is not None
        raise problem
    return best


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
    set_: Set = None,
    json_: Json = False,
) -> int:
    """Report what is wrong with the data. Exits 1 if there are errors."""
    from luthier import run
    from luthier.terminal.printers import print_data_report
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json

    is_recipe = Path(target).suffix.lower() in (".yaml", ".yml")
    if fix_offsets and fix_tags:
        raise InputError("one repair at a time", where=target, fix="leave --fix-offsets or --fix-tags out")
    if fix_offsets or fix_tags:
        kind = "spans" if fix_offsets else "tags"
        return _repair(kind, target, task, is_recipe, set_ or [], json_)
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
    if task is not None and set_:
        raise InputError(
            "--set changes a recipe, and this is a data file",
            where=target,
            fix=f"make one: luthier new {task} --data {target}",
        )
    with Progress() as listen:
        report = run.check(target, task=task, overrides=set_ or [], listen=listen)
    if json_:
        print_json(report)
    else:
        print_data_report(report)
    return 1 if any(fault["severity"] == "error" for fault in report["faults"]) else 0


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
