"""`models list` and `models get`."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import Json

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
