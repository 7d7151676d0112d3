"""Arguments that several verbs share, and how names given on the command line are understood."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.errors import InputError, NoColumn, did_you_mean

if TYPE_CHECKING:
    from luthier.tasks import Task

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, all else on stderr.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, number or name, or: last.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="The run folder itself: absent or empty.",
        show_default="runs/NUMBER-TASK-METHOD",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's key, such as train.epochs=1. May be repeated."),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="FIELD=NAME",
        help="Which column of the file holds a field, such as label=stars. May be repeated.",
    ),
]


def columns_of(given: Sequence[str] | None) -> dict[str, str]:
    """Field -> column, as `--column` was given. InputError for what has no equals sign, or says a field twice."""
    columns: dict[str, str] = {}
    for one in given or ():
        field, equals, column = (part.strip() for part in one.partition("="))
        if not (field and equals and column):
            raise InputError(f'"{one}" is no FIELD=NAME', where="--column", fix="write it like --column label=stars")
        if columns.setdefault(field, column) != column:
            fix = "name one column for each field"
            raise InputError(f'{field} is "{columns[field]}" and "{column}"', where="--column", fix=fix)
    return columns


@contextlib.contextmanager
def columns_asked(command: str, given: Mapping[str, str]) -> Iterator[None]:
    """A field that no column holds is to be named with `--column`, since this `command` has no recipe to say it in."""
    try:
        yield
    except NoColumn as error:
        raise InputError(error.found, where=error.where, fix=naming(command, {**given, **error.missing})) from None


def naming(command: str, columns: Mapping[str, str]) -> str:
    """How to say which column holds what; "" stands for a column that nobody knows."""
    pairs = [f"{field}={column or 'NAME'}" for field, column in columns.items()]
    return f"say which column it is: {command} {' '.join(f'--column {shlex.quote(pair)}' for pair in pairs)}"


@contextlib.contextmanager
def writing(path: Path, option: str) -> Iterator[None]:
    """A file that a person named with `option` is written; InputError where that cannot be."""
    try:
        yield
    except OSError as error:
        found = f"no file can be written there ({error.strerror})"
        raise InputError(found, where=str(path), fix=f"name another with {option}") from None


def task_named(name: str) -> type[Task]:
    """The task, or InputError with the nearest name."""
    from luthier.tasks import TASKS

    if name not in TASKS:
        raise InputError(f'there is no task "{name}"', where="task", fix=did_you_mean(name, TASKS))
    return TASKS[name]


def names_in(listed: str | None) -> list[str]:
    """The names in "a, b"."""
    return [name.strip() for name in (listed or "").split(",") if name.strip()]
