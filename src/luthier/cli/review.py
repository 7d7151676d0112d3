"""`review`: a run's answers, one after another, and a person's word on each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .arguments import Json, RunName

if TYPE_CHECKING:
    from luthier.evidence.report.rows import Shown
    from luthier.run.review import Review

WORDS = {"g": "good", "good": "good", "b": "bad", "bad": "bad"}


def review(
    run: RunName = "last",
    which: Annotated[
        Literal["random", "worst", "confident", "best"],
        typer.Option("--which", help="Which rows come first: confident shows mistakes it was sure of."),
    ] = "random",
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many.")] = 50,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who judges.", show_default="the user's name")] = "",
    json_: Json = False,
) -> int:
    """Judge a run's answers one by one; they are kept with the run and counted in its report.

    Type g (good) or b (bad), and a note behind it if you like; an empty line passes the row over, q ends. What is said
    is on the disk at once; `luthier review` goes on where it was left.
    """
    from luthier.run import load
    from luthier.run.review import count_in_report, me
    from luthier.run.review import review as begin
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json, say

    opened = load(run)
    with Progress() as listen:
        found = begin(opened, which, rows, listen=listen)
    who = by.strip() or me()
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        _ask(found, found.left(who), who)
    told = count_in_report(opened)
    if json_:
        print_json(told.as_json() if told is not None else {"judgements": 0})
    elif told is None:
        say("Nothing was judged.")
    else:
        print(told.finding().sentence)
        print(f"in the report: {opened.folder.report}")
    return 0


def _ask(found: Review, left: Sequence[Shown], who: str) -> None:
    from luthier.evidence.report.judgements import SCALES
    from luthier.terminal.printers import print_shown
    from luthier.terminal.streams import say

    if not left:
        say(f"{who} has judged all of them; --rows or --which gives others")
    for place, row in enumerate(left, 1):
        print_shown(row, f"{place} of {len(left)}")
        while True:
            said = input("g(ood) b(ad) and a note, Enter to pass over, q to end> ").strip()
            word, _, note = said.partition(" ")
            if word.lower() in ("q", "quit"):
                return
            if not said or word.lower() in WORDS:
                break
            say("type g or b first")
        if not said:
            continue
        scales = _scales(SCALES) if found.written else None
        found.keep(row.id, who, WORDS[word.lower()], note.strip(), scales)  # type: ignore[arg-type]


def _scales(names: Sequence[str]) -> dict[str, int] | None:
    """Numbers 1 to 5 for written answers, in one line; None where the line is empty."""
    from luthier.terminal.streams import say

    asked = ", ".join(name.replace("_", " ") for name in names)
    while True:
        said = input(f"{asked}, 1 to 5 each (as 4 5 3; Enter for none)> ").split()
        if not said:
            return None
        if len(said) == len(names) and all(one in "12345" and len(one) == 1 for one in said):
            return {name: int(one) for name, one in zip(names, said)}
        say(f"type {len(names)} numbers from 1 to 5")
