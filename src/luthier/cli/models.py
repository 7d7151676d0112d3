"""`models list`, `models get` and `models suggest`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from luthier.errors import InputError

from .arguments import Column, Json, columns_asked, columns_of, task_named

app = typer.Typer(
    help="What can be tuned: the catalogue, and what is on this disk.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(json_: Json = False) -> int:
    """The catalogue and the models on this disk: kind, size, licence."""
    from luthier.models import listing
    from luthier.terminal.printers import print_models
    from luthier.terminal.streams import print_json

    rows = listing()
    if json_:
        print_json(rows)
    else:
        print_models(rows)
    return 0


@app.command("get")
def get(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A catalogue name, a hub id (org/name@revision) or a GGUF file."),
    ],
    json_: Json = False,
) -> int:
    """Fetch a model or data set, once, and print where it lies."""
    from luthier.models import get as get_model
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json
    from luthier.training.events import Phase

    with Progress() as listen:
        path = get_model(
            name,
            say=listen.say,
            progress=lambda done, total: listen(Phase(f"fetching {name}", done, total, "bytes")),
        )
    if json_:
        print_json({"name": name, "path": str(path)})
    else:
        print(path)
    return 0


@app.command("suggest")
def suggest(
    task: Annotated[str, typer.Option("--task", metavar="TASK", help="What is to be learned.")],
    data: Annotated[str, typer.Option("--data", metavar="FILE", help="Your rows; a few hundred are looked at.")],
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="What there is, such as 8GB.", show_default="no limit"),
    ] = None,
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="How it will be tuned.")] = "full",
    language: Annotated[
        str | None,
        typer.Option(
            "--language", metavar="CODE", help="Of the rows, such as en.", show_default="judged from the rows"
        ),
    ] = None,
    column: Column = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What rows hold, such as task.pair=true. May be repeated."),
    ] = None,
    json_: Json = False,
) -> int:
    """Base models for your rows: what fits, ranked by a probe of those on this disk."""
    from luthier.errors import did_you_mean
    from luthier.methods import METHODS
    from luthier.run.advice import suggest as advise
    from luthier.terminal.printers import print_advice
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json

    task_named(task)
    if method not in METHODS:
        raise InputError(f'there is no method "{method}"', where="--method", fix=did_you_mean(method, METHODS))
    columns = columns_of(column)
    command = " ".join(f"--set {shlex.quote(one)}" for one in set_ or ())
    command = f"luthier models suggest --task {task} --data {shlex.quote(data)} {command}".rstrip()
    with Progress() as listen, columns_asked(command, columns):
        advice = advise(
            task,
            data,
            memory=_bytes(memory),
            method=method,
            language=language,
            columns=columns,
            overrides=set_ or [],
            listen=listen,
        ).as_json()
    if json_:
        print_json(advice)
    else:
        print_advice(advice)
    return 0


def _bytes(text: str | None) -> int | None:
    """8GB, 512 MB or a bare number of bytes."""
    import re

    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(TB|GB|MB|KB|B)?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise InputError(f'"{text}" is no size', where="--memory", fix="write it like 8GB or 500MB")
    scale = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[(match[2] or "B").upper()]
    return int(float(match[1]) * scale)
