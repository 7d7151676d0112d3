"""Arguments that several verbs share, and how names given on the command line are understood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.errors import InputError, did_you_mean

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


def task_named(name: str) -> type[Task]:
    """The task, or InputError with the nearest name."""
    from luthier.tasks import TASKS

    if name not in TASKS:
        raise InputError(f'there is no task "{name}"', where="task", fix=did_you_mean(name, TASKS))
    return TASKS[name]
