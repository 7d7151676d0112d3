"""`audit`: whether a run treats groups of people alike, and what corrects it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luthier.errors import InputError, did_you_mean

from .arguments import Json, RunName, names_in

MEANS = ("reweighting", "removal", "counterfactual", "adversarial", "filter")


def audit(
    run: RunName = "last",
    groups: Annotated[
        str | None,
        typer.Option("--groups", metavar="COLUMN,...", help="Columns of the rows whose values are groups."),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option("--positive", metavar="LABEL", help="The label that counts as selected."),
    ] = None,
    terms: Annotated[
        Path | None,
        typer.Option("--terms", metavar="FILE", help="Word lists of groups (YAML) in place of luthier's own."),
    ] = None,
    crows: Annotated[
        Path | None,
        typer.Option("--crows", metavar="FILE", help="CrowS-Pairs (CSV), for a language model."),
    ] = None,
    bbq: Annotated[
        Path | None,
        typer.Option("--bbq", metavar="FILE", help="BBQ (JSONL, or a folder of them), for question answering."),
    ] = None,
    correct: Annotated[
        str | None,
        typer.Option("--correct", metavar="MEANS", help=f"Write corrected data and recipe: {', '.join(MEANS)}."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where they go.", show_default="corrected-MEANS"),
    ] = None,
    json_: Json = False,
) -> int:
    """Does it treat groups alike: scores by group, answers with groups swapped, CrowS-Pairs, BBQ."""
    from luthier.run import audit as audit_run
    from luthier.run import correct as correct_run
    from luthier.run import load
    from luthier.terminal.audits import print_audit, print_correction
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import print_json

    if correct is not None and correct not in MEANS:
        raise InputError(f'there is no means "{correct}"', where="--correct", fix=did_you_mean(correct, MEANS))
    if out is not None and correct is None:
        raise InputError("nothing is written there without --correct", where="--out", fix="add --correct MEANS")
    opened = load(run)
    columns = names_in(groups)
    with Progress() as listen:
        if correct is not None:
            written = correct_run(opened, correct, columns, terms, out, listen=listen)
        else:
            found = audit_run(opened, columns, terms, crows, bbq, positive, listen=listen)
    if correct is not None:
        print_json(written) if json_ else print_correction(written)
    elif json_:
        print_json(found)
    else:
        print_audit(found, opened.folder.audit_page)
    return 0
