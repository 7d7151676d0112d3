"""`evaluate`, `predict`, `compare` and `verdict`: the verbs that read a finished run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from luthier.errors import InputError, RunError

from .arguments import Json, RunName

VERDICT_CODES = {"use it": 0, "do not use it": 1, "not proven": 3}
SHOWN_LABELS = 5


def evaluate(
    run: RunName = "last",
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Other labelled rows; without it the scores of the run's own test split.",
        ),
    ] = None,
    json_: Json = False,
) -> int:
    """Scores with intervals, beside three baselines."""
    from luthier.data.reading.raw import shown
    from luthier.methods import METHODS
    from luthier.run import evaluate as evaluate_run
    from luthier.run import load
    from luthier.terminal.printers import plural, print_scores
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json, say

    opened = load(run)
    with Progress() as listen:
        found = evaluate_run(opened, data, listen=listen)
    skipped, seen = found.get("skipped") or [], found.get("seen_in_training") or []
    if skipped:
        are = "is" if len(skipped) == 1 else "are"
        say(f"warning: {plural(len(skipped), 'row')} could not be read and {are} not scored; see: luthier check {data}")
    if seen:
        say(f"warning: {len(seen):,} of these rows were trained on; the scores are too good by them")
    if unknown := found.get("unknown_labels"):
        names = ", ".join(f'"{shown(label, 40)}" on {rows:,}' for label, rows in list(unknown.items())[:SHOWN_LABELS])
        more = f" and {len(unknown) - SHOWN_LABELS:,} more" if len(unknown) > SHOWN_LABELS else ""
        say(f"warning: training never saw these labels, so their rows are answered wrongly: {names}{more}")
    if json_:
        print_json(found)
    else:
        print_scores(found, opened.recipe.task, METHODS[opened.recipe.method.name].called)
    return 0


def predict(
    run: RunName,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="CSV, TSV, JSON, JSONL, Parquet, text or SQuAD.",
            show_default="stdin",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where the JSON lines go.", show_default="stdout"),
    ] = None,
) -> int:
    """Answer rows: one JSON line a row, ids and order kept. At a terminal it asks row by row.

    A row that cannot be read gets a line with its error, and the exit code is then 1.
    """
    from luthier.run import load
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import say
    from luthier.training.events import Phase

    from .rows import answered, ask, begun, opened_rows, stdin_rows, written

    if (
        output is not None
        and source is not None
        and output.exists()
        and Path(source).exists()
        and output.samefile(source)
    ):
        raise InputError("it is the input, too", where=str(output), fix="name another file with --output")
    if source is None and sys.stdin is None:
        raise InputError("there is no standard input to read", where="predict", fix="name a file with --input")
    if output is not None and not output.parent.is_dir():
        raise InputError("its folder is not there", where=str(output), fix=f"mkdir -p {output.parent}")
    opened = load(run)
    form = opened.task().asked()
    known = {"id", *(field.name for field in form.fields)}
    columns = {name: column for name, column in opened.columns.items() if name in known}
    asked = None
    with Progress() as listen:
        if source is not None:  # it is looked into before the model is loaded, which takes long
            listen(Phase("reading rows"))
            asked = begun(opened_rows(source, form, columns))
        listen(Phase("loading the model"))
        tuned = opened.tuned()
    if source is None and sys.stdin.isatty():
        return ask(tuned, form)
    asked = stdin_rows(sys.stdin.buffer, form, columns) if asked is None else asked
    with Progress() as listen:
        lines = answered(tuned, asked, lambda done: listen(Phase("predicting", done)))
        done, failed = written(lines, output)
    if failed:
        say(f"warning: {failed:,} of {done:,} rows could not be answered; their lines say why")
    if output is not None:
        say(f"{done:,} rows in {output}")
    return 1 if failed else 0


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs; differences are to the first.")],
    json_: Json = False,
) -> int:
    """Several runs side by side: scores, differences, costs."""
    from luthier.run import compare as compare_runs
    from luthier.run import load
    from luthier.terminal.printers import print_comparison
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json
    from luthier.training.events import Phase

    with Progress() as listen:
        listen(Phase("comparing"))
        comparison = compare_runs([load(name) for name in runs])
    if json_:
        print_json(comparison.as_json())
    else:
        print_comparison(comparison)
    return 0


def verdict(run: RunName = "last", json_: Json = False) -> int:
    """Use it or not, and why. Exits 0 use it, 1 do not use it, 3 not proven."""
    from luthier.run import load
    from luthier.terminal.printers import print_verdict
    from luthier.terminal.streams import print_json

    opened = load(run)
    found = opened.verdict
    if found is None:
        state = opened.status().get("state")
        raise RunError(
            f"it has no verdict: it is {state}",
            where=str(opened.path),
            fix="wait for it" if state == "running" else f"luthier resume {opened.path}",
        )
    if json_:
        print_json(found)
    else:
        print_verdict(found, findings=opened.findings)
    return VERDICT_CODES[str(found["verdict"])]
