"""`preview`: the rows as the model will see them."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import Json, Set


def preview(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe (.yaml).")],
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, max=1000, help="So many rows.")] = 5,
    split: Annotated[str, typer.Option("--split", metavar="SPLIT", help="train, validation or test.")] = "train",
    set_: Set = None,
    json_: Json = False,
) -> int:
    """Show rows as the model will see them, what is learned of them marked."""
    from luthier import run
    from luthier.terminal.previews import print_preview
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json

    with Progress() as listen:
        found = run.preview(recipe, rows=rows, split=split, overrides=set_ or [], listen=listen)
    if json_:
        print_json(found)
    else:
        print_preview(found)
    return 0
