"""`demo`, `train` and `resume`: the verbs that end in a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.engine.ranks import beside, world
from luthier.errors import InputError, did_you_mean

from .arguments import Json, Out, Set
from .headlines import with_headlines

if TYPE_CHECKING:
    from luthier.run import Run

WORTH_FREEING = 10_000_000  # bytes of checkpoints


def demo(
    name: Annotated[str, typer.Argument(metavar="NAME", help="sentiment or helpline.")] = "sentiment",
    out: Out = None,
) -> int:
    """The whole way on real data with a small model."""
    from luthier.demos import DEMOS, answers, fetch_all
    from luthier.models import data_home
    from luthier.run import train as train_run
    from luthier.terminal.printers import print_answers
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import console, print_error
    from luthier.training.events import Phase

    if name not in DEMOS:
        raise InputError(f'there is no demo "{name}"', where="demo", fix=did_you_mean(name, DEMOS))
    chosen = DEMOS[name]
    page = console()
    page.print(chosen.before)
    with Progress() as listen:
        fetch_all(
            chosen.needs,
            say=listen.say,
            progress=lambda what, done, total: listen(Phase(f"fetching {what}", done, total, "bytes")),
        )
        recipe = chosen.prepare(data_home() / f"demo-{name}")
        run = train_run(recipe, out=out, listen=listen)
    print()
    _show_scores(run)
    shown = answers(run, recipe)
    if shown:
        print("\nThree of its answers to test rows:")
        print_answers(shown)
    elif run.evaluation:
        print_error("its test predictions could not be read")
    print()
    _show_verdict(run)
    print()
    page.print(chosen.after)
    print()
    _show_places(run)
    return 0


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe (.yaml); luthier new writes one.")],
    out: Out = None,
    set_: Set = None,
    json_: Json = False,
) -> int:
    """Check the data, tune the model, prove it. Exits 0 when it finished, whatever the verdict."""
    from luthier.run import train as train_run
    from luthier.terminal.progress import Progress

    if beside():
        train_run(recipe, out=out, overrides=set_ or [])
        return 0
    with Progress() as listen:
        run = train_run(recipe, out=out, overrides=set_ or [], listen=with_headlines(listen))
    return _show(run, json_)


def resume(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's folder, number or name.", show_default="the newest unfinished"),
    ] = None,
    json_: Json = False,
) -> int:
    """Carry a stopped run on from its last checkpoint."""
    from luthier.models import home
    from luthier.run import load
    from luthier.run import resume as resume_run
    from luthier.run.fitting import why_it_died
    from luthier.runs import known_runs, newest_unfinished
    from luthier.terminal.progress import Progress
    from luthier.terminal.streams import say

    if beside():
        resume_run(name)
        return 0
    if world() > 1:  # the others wait for the main rank's word which run it is
        with Progress() as listen:
            return _show(resume_run(name, listen=with_headlines(listen)), json_)
    if name is None:
        folder = newest_unfinished(home())
        if folder is None:
            known = known_runs(home())
            if not known:
                raise InputError("there is no run to resume", where="resume", fix="luthier train RECIPE begins one")
            say("nothing to resume: every run is finished; here is the newest")
            return _show(load(str(known[-1])), json_)
        name = str(folder.path)
    run = load(name)
    if run.folder.finished():
        say(f"{run.path} is finished; nothing was done")
        return _show(run, json_)
    say(f"resuming {run.path}")
    if why := why_it_died(run.folder):
        say(f"warning: {why}")
    with Progress() as listen:
        run = resume_run(name, listen=with_headlines(listen))
    return _show(run, json_)


def _show(run: Run, as_json: bool) -> int:
    """What a run came to; its path is the last line."""
    from luthier.terminal.streams import print_json

    if as_json:
        print_json(summary(run))
        return 0
    _show_scores(run)
    print()
    _show_verdict(run)
    print()
    _show_places(run)
    return 0


def summary(run: Run) -> dict[str, Any]:
    report = run.folder.report
    return {
        "run": str(run.path),
        "state": run.status().get("state"),
        "verdict": run.verdict,
        "evaluation": run.evaluation,
        "report": str(report) if report.is_file() else None,
    }


def _show_scores(run: Run) -> None:
    from luthier.methods import METHODS
    from luthier.terminal.printers import print_scores

    if run.evaluation is None:
        print("There is no test split, so there are no scores to show.")
    else:
        print_scores(run.evaluation, run.recipe.task, METHODS[run.recipe.method.name].called)


def _show_verdict(run: Run) -> None:
    from luthier.terminal.printers import print_verdict

    if run.verdict is not None:
        print_verdict(run.verdict, findings=run.findings, rest="they stand in the report below")


def _show_places(run: Run) -> None:
    from luthier.evidence.report.content import memory_text

    whole, checkpoints = (_size(place) for place in (run.path, run.folder.checkpoints))
    if run.folder.finished() and checkpoints >= WORTH_FREEING:
        print(
            f"disk: {memory_text(whole)}, {memory_text(checkpoints)} of it checkpoints, which a finished run needs no "
            f"more; to free it: rm -r {run.folder.checkpoints.resolve()}"
        )
    if run.folder.report.is_file():
        print(f"report: {run.folder.report.resolve()}")
    print(f"run: {run.path.resolve()}")


def _size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
