"""`ladder`: every method on the same split."""

from __future__ import annotations

from typing import Annotated

import typer

from .arguments import Json, Out, Set
from .headlines import with_headlines


def ladder(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe (.yaml); its ladder block names models.")],
    out: Out = None,
    set_: Set = None,
    json_: Json = False,
) -> int:
    """Tune the same rows with every method: scores, costs, one table and one plot. Goes on where it was stopped."""
    from luthier.ladder import climb
    from luthier.terminal.printers import print_ladder
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json

    with Progress() as listen:
        found = climb(recipe, out=out, overrides=set_ or [], listen=with_headlines(listen))
    if json_:
        print_json(found.as_json())
    else:
        print_ladder(found.as_json())
    return 0
